//! What was found, for people and for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::knobs::{Place, Role};

/// How a check ended. The order is that of the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    /// As it should be.
    Pass,
    /// The target can be reached, with less room than there should be.
    Warn,
    /// The target can't be reached.
    Fail,
}

impl Verdict {
    /// 0, 1 or 2.
    pub(crate) const fn exit_code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// One knob, judged.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    #[serde(rename = "where")]
    pub(super) place: Place,
    pub(super) have: String,
    pub(super) want: String,
    pub(super) verdict: Verdict,
    pub(super) why: String,
    pub(super) cost: &'static str,
    pub(super) source: &'static str,
    /// The command that mends it; none where there is nothing to mend, or no command for it.
    pub(super) mend: Option<String>,
}

/// A bound on the connections that the host can hold as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Bound {
    pub(super) name: &'static str,
    pub(super) connections: u64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The target.
    pub(super) connections: u64,
    pub(super) host: Role,
    pub(super) cores: u64,
    pub(super) kernel: String,
    /// `direct` or `regular`.
    pub(super) descriptors: String,
    /// The worst of all checks; a failure, too, if a bound without a check is too low.
    pub(crate) verdict: Verdict,
    /// The largest number of connections that the host holds as it is.
    pub(super) connections_max: u64,
    /// What bounds them, the tightest first.
    pub(super) bounds: Vec<Bound>,
    pub(super) checks: Vec<Check>,
}

/// Columns of the lines below a check.
const TEXT_COLUMNS: usize = 110;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.host {
            Role::Server => "accept",
            Role::Load => "open",
            Role::Both => "accept and to open",
        };
        writeln!(
            f,
            "{} connections to {role}, {} cores, Linux {}, {} descriptors\n",
            grouped(self.connections),
            self.cores,
            self.kernel,
            self.descriptors
        )?;
        let width = |of: fn(&Check) -> &str| self.checks.iter().map(|check| of(check).len()).max().unwrap_or(0);
        let (names, have) = (width(|check| &check.name), width(|check| &check.have));
        for check in &self.checks {
            let want = if check.want.is_empty() { String::new() } else { format!("wanted {}", check.want) };
            let line = format!("{}  {:names$}  {:have$}  {want}", check.verdict, check.name, check.have);
            writeln!(f, "{}", line.trim_end())?;
            if check.verdict != Verdict::Pass {
                f.write_str(&indented(&check.why))?;
                if let Some(mend) = &check.mend {
                    writeln!(f, "{INDENT}=> {mend}")?;
                }
            }
        }
        writeln!(f)?;
        if let [first, rest @ ..] = self.bounds.as_slice() {
            write!(f, "As it is, this host holds {} connections: {} binds", grouped(first.connections), first.name)?;
            for bound in rest {
                write!(f, ", then {} at {}", bound.name, grouped(bound.connections))?;
            }
            writeln!(f, ".")?;
        }
        let count = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        let [pass, warn, fail] = [Verdict::Pass, Verdict::Warn, Verdict::Fail].map(count);
        writeln!(f, "{}: {pass} as they should be, {warn} warnings, {fail} failures", self.verdict)
    }
}

const INDENT: &str = "      ";

/// A text in lines that a terminal holds.
fn indented(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        if column == 0 || column + 1 + word.len() > TEXT_COLUMNS {
            let _ = write!(lines, "{}{INDENT}{word}", if column == 0 { "" } else { "\n" });
            column = INDENT.len() + word.len();
        } else {
            let _ = write!(lines, " {word}");
            column += 1 + word.len();
        }
    }
    lines.push('\n');
    lines
}

/// A number with a comma after every three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_lines_are_short() {
        assert_eq!(
            ["1", "999", "1,000", "1,000,000"],
            [1, 999, 1_000, 1_000_000].map(grouped).each_ref().map(|t| &**t)
        );
        let text = "word ".repeat(60);
        let lines = indented(text.trim_end());
        assert!(lines.lines().count() > 2);
        assert!(lines.lines().all(|line| line.starts_with(INDENT) && line.len() <= TEXT_COLUMNS));
        assert_eq!(lines.split_whitespace().count(), 60);
    }
}
