//! The table that the scripts of `tuning/` read, too.

use super::expression::{ExpressionError, Variables, evaluate};

/// `tuning/knobs.conf`, which says what its fields mean.
const TABLE: &str = include_str!("../../../tuning/knobs.conf");

/// Where a knob lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Sysctl,
    Rlimit,
    Boot,
    Memory,
    Setting,
    Kernel,
}

/// Which ends of the connections a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// The host accepts the connections
    #[default]
    Server,
    /// The host opens them, to measure another one
    Load,
    /// Both, to try the server out on its own host
    Both,
}

impl Role {
    pub(super) const fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Both)
    }

    /// Sockets that a connection has here.
    pub(super) const fn ends(self) -> i64 {
        if matches!(self, Self::Both) { 2 } else { 1 }
    }

    /// Whether a knob for hosts of the role `only` is for one of this role.
    fn includes(self, only: Self) -> bool {
        self == only || self == Self::Both
    }
}

/// How what a host has is compared with what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    AtLeast,
    AtMost,
    Range,
    Includes,
    NoneOf,
}

/// One knob.
#[derive(Clone, Debug)]
pub(super) struct Knob {
    pub(super) name: &'static str,
    pub(super) place: Place,
    /// `None`: for either.
    pub(super) role: Option<Role>,
    pub(super) rule: Rule,
    /// Expressions, or names where the rule is [`Rule::NoneOf`].
    pub(super) want: Vec<&'static str>,
    need: Option<&'static str>,
    when: Option<&'static str>,
    pub(super) why: &'static str,
    pub(super) cost: &'static str,
    pub(super) source: &'static str,
}

impl Knob {
    pub(super) fn wanted(&self, variables: &impl Variables) -> Result<Vec<i64>, ExpressionError> {
        self.want.iter().map(|expression| evaluate(expression, variables)).collect()
    }

    /// Below it the target can't be reached.
    pub(super) fn needed(&self, variables: &impl Variables) -> Result<Option<i64>, ExpressionError> {
        self.need.map(|expression| evaluate(expression, variables)).transpose()
    }

    /// Whether the knob makes a difference.
    pub(super) fn matters(&self, variables: &impl Variables) -> Result<bool, ExpressionError> {
        self.when.map_or(Ok(true), |expression| Ok(evaluate(expression, variables)? != 0))
    }
}

/// Why the table can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TableError {
    /// A line that is neither.
    #[error("knobs.conf: neither a name nor a field: `{0}`")]
    Line(String),
    /// A field that is missing, or has no such value.
    #[error("knobs.conf: `{knob}` has no good `{field}`")]
    Field {
        /// Whose.
        knob: String,
        /// Which.
        field: &'static str,
    },
    /// An expression without a value.
    #[error("knobs.conf: {0}")]
    Expression(#[from] ExpressionError),
}

/// The knobs of one kind of host, or of both, in the order of the table.
pub(super) fn knobs(role: Role) -> Result<Vec<Knob>, TableError> {
    let all = read(TABLE)?;
    Ok(all.into_iter().filter(|knob| knob.role.is_none_or(|only| role.includes(only))).collect())
}

/// A name, and fields with their values.
type Block = (&'static str, Vec<(&'static str, &'static str)>);

fn read(table: &'static str) -> Result<Vec<Knob>, TableError> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            blocks.push((name, Vec::new()));
        } else if let (Some((field, value)), Some((_, fields))) = (line.split_once('='), blocks.last_mut()) {
            fields.push((field.trim(), value.trim()));
        } else {
            return Err(TableError::Line(line.to_owned()));
        }
    }
    blocks.into_iter().map(|(name, fields)| knob(name, &fields)).collect()
}

fn knob(name: &'static str, fields: &[(&str, &'static str)]) -> Result<Knob, TableError> {
    let find = |field: &str| fields.iter().find(|(key, _)| *key == field).map(|(_, value)| *value);
    let wrong = |field| TableError::Field { knob: name.to_owned(), field };
    let text = |field| find(field).filter(|value| !value.is_empty()).ok_or_else(|| wrong(field));
    Ok(Knob {
        name,
        place: match text("where")? {
            "sysctl" => Place::Sysctl,
            "rlimit" => Place::Rlimit,
            "boot" => Place::Boot,
            "memory" => Place::Memory,
            "setting" => Place::Setting,
            "kernel" => Place::Kernel,
            _ => return Err(wrong("where")),
        },
        role: match text("host")? {
            "both" => None,
            "server" => Some(Role::Server),
            "load" => Some(Role::Load),
            _ => return Err(wrong("host")),
        },
        rule: match find("rule") {
            None => Rule::AtLeast,
            Some("at-most") => Rule::AtMost,
            Some("range") => Rule::Range,
            Some("includes") => Rule::Includes,
            Some("none-of") => Rule::NoneOf,
            Some(_) => return Err(wrong("rule")),
        },
        want: text("want")?.split(';').map(str::trim).collect(),
        need: find("need"),
        when: find("when"),
        why: text("why")?,
        cost: text("cost")?,
        source: text("source")?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crore_engine::uring::DescriptorKind;

    use super::*;

    const HOSTS: [[i64; 9]; 5] = [
        // N, C, P, D, L, M, S, K, E
        [1, 1, 80, 0, 1_281, 131_072, 1, 6_001, 1],
        [20_000, 2, 8_080, 1, 11_905, 6_000_000, 0, 6_018, 2],
        [1_000_000, 16, 8_080, 1, 67_686, 16_000_000, 1, 6_013, 1],
        [1_000_000, 16, 8_080, 0, 1_078_884, 16_000_000, 2, 6_012, 2],
        [10_000_000, 64, 443, 1, 167_000, 12_000_000, 1, 7_000, 1],
    ];

    const NAMES: &str = "NCPDLMSKE";

    fn variables(host: &[i64; 9]) -> impl Fn(char) -> Option<i64> {
        |name| NAMES.find(name).map(|index| host[index])
    }

    #[test]
    fn the_table_can_be_read_for_both_ends() {
        for role in [Role::Server, Role::Load] {
            let knobs = knobs(role).unwrap();
            assert!(knobs.len() > 10);
            let mut names: Vec<_> = knobs.iter().map(|knob| knob.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), knobs.len(), "one host has a knob once: {names:?}");
        }
    }

    #[test]
    fn a_shell_computes_the_same_values() {
        let mut compared = 0;
        for knob in read(TABLE).unwrap().iter().filter(|knob| knob.rule != Rule::NoneOf) {
            for host in &HOSTS {
                for expression in knob.want.iter().copied().chain(knob.need).chain(knob.when) {
                    let value = evaluate(expression, &variables(host)).unwrap();
                    let assignments: String =
                        NAMES.chars().zip(host).map(|(name, value)| format!("{name}={value} ")).collect();
                    let script = format!("{assignments}; echo $(({expression}))");
                    let shell = Command::new("bash").args(["-c", &script]).output().unwrap();
                    assert_eq!(String::from_utf8(shell.stdout).unwrap().trim(), value.to_string(), "{expression}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 100);
    }

    #[test]
    fn the_wanted_descriptors_are_enough_for_the_engine() {
        let knobs = knobs(Role::Server).unwrap();
        let nofile = knobs.iter().find(|knob| knob.name == "nofile").unwrap();
        for connections in [1, 1_000, 20_000, 999_999, 5_000_000] {
            for cores in [1, 2, 7, 64_u16] {
                for (direct, kind) in [(0, DescriptorKind::Regular), (1, DescriptorKind::Direct)] {
                    let host = [connections, cores.into(), 0, direct, 0, 0, 0, 0, 1];
                    let limit = nofile.wanted(&variables(&host)).unwrap()[0];
                    let per_core = kind.connections_per_core_at(limit.cast_unsigned(), cores.into());
                    // A ring has 2^20 slots, whatever the limit.
                    let share = connections.cast_unsigned().div_ceil(cores.into()).min((1 << 20) - 256);
                    assert!(u64::from(per_core) >= share, "{connections} on {cores} cores, {kind}: {per_core}");
                }
            }
        }
    }

    #[test]
    fn mistakes_in_a_table_are_named() {
        assert_eq!(read("stray").unwrap_err(), TableError::Line("stray".to_owned()));
        let field = |table| read(table).unwrap_err().to_string();
        assert!(field("[a]\nwhere = moon").contains("`where`"));
        assert!(field("[a]\nwhere = sysctl\nhost = server\nwant =").contains("`want`"));
        assert!(field("[a]\nwhere = sysctl\nhost = server\nrule = never\nwant = 1").contains("`rule`"));
    }
}
