//! Files below `/proc/sys`, and the table that the kernel makes when it boots.

use super::Examination;
use super::host::Privilege;
use super::knobs::{Knob, Rule, TableError};
use super::report::{Check, Verdict, grouped};

impl Examination<'_> {
    /// Compares by the knob's rule.
    pub(super) fn sysctl(&self, knob: &Knob) -> Result<Option<Check>, TableError> {
        let Some(have) = self.host.sysctl(knob.name) else { return Ok(None) };
        if !knob.matters(self)? {
            return Ok(Some(knob.pass(format!("{have} (does not count here)"), "")));
        }
        let check = match knob.rule {
            Rule::NoneOf => self.none_of(knob, &have),
            Rule::Includes => self.includes(knob, &have)?,
            Rule::AtLeast | Rule::AtMost | Rule::Range => self.compare(knob, &have)?,
        };
        Ok(Some(check))
    }

    fn compare(&self, knob: &Knob, have: &str) -> Result<Check, TableError> {
        let wanted = knob.wanted(self)?;
        let numbers: Vec<i64> = have.split(' ').map(number).collect();
        let better: Vec<i64> = wanted
            .iter()
            .enumerate()
            .map(|(index, wanted)| {
                let have = numbers.get(index).copied().unwrap_or_default();
                let lower = match knob.rule {
                    Rule::AtMost => true,
                    Rule::Range => index == 0,
                    _ => false,
                };
                if lower { have.min(*wanted) } else { have.max(*wanted) }
            })
            .collect();
        let check = knob.pass(have, joined(&wanted));
        if better == numbers {
            return Ok(check);
        }
        let missed = knob.needed(self)?.is_some_and(|needed| numbers.first().is_none_or(|have| *have < needed));
        let verdict = match missed {
            // A table of connections that has none, though this program has some, is not in use.
            true if knob.name == CONNTRACK && self.host.sysctl_number(CONNTRACK_COUNT) == Some(0) => Verdict::Warn,
            true => Verdict::Fail,
            false => Verdict::Warn,
        };
        let check = check.but(verdict, set(knob.name, &joined(&better)));
        Ok(if knob.rule == Rule::Range { self.count_addresses(check, &numbers) } else { check })
    }

    /// Says how many source addresses the ports make necessary.
    fn count_addresses(&self, check: Check, range: &[i64]) -> Check {
        let [low, high] = *range else { return check };
        let ports = u64::try_from(high - low + 1).unwrap_or(0).max(1);
        let addresses = grouped(self.question.connections.div_ceil(ports));
        let why = format!("{}. With these {} ports, {addresses} source addresses", check.why, grouped(ports));
        check.because(why)
    }

    /// A port in a list such as `80,8000-8100`. It matters only within the range that local ports come from.
    fn includes(&self, knob: &Knob, have: &str) -> Result<Check, TableError> {
        let port = knob.wanted(self)?.first().copied().unwrap_or_default();
        let range = self.host.sysctl("net.ipv4.ip_local_port_range").unwrap_or_default();
        let bounds: Vec<i64> = range.split(' ').map(number).collect();
        let listed = have.split(',').filter(|part| !part.is_empty()).any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            (number(first)..=number(last)).contains(&port)
        });
        let shown = if have.is_empty() { "none" } else { have };
        let check = knob.pass(shown, port.to_string());
        let chosen = matches!(bounds.as_slice(), [low, high] if (*low..=*high).contains(&port));
        if listed || !chosen {
            return Ok(check);
        }
        let list = if have.is_empty() { port.to_string() } else { format!("{have},{port}") };
        Ok(check.but(Verdict::Warn, set(knob.name, &list)))
    }

    fn none_of(&self, knob: &Knob, have: &str) -> Check {
        let check = knob.pass(have, "");
        if !knob.want.contains(&have) {
            return check;
        }
        Check { want: format!("not {have}"), ..check }.but(Verdict::Warn, set(knob.name, "cubic"))
    }

    /// Open files of the whole host, of which there are some already.
    pub(super) fn open_files(&self, knob: &Knob) -> Result<Option<Check>, TableError> {
        let Some(have) = self.host.sysctl(knob.name) else { return Ok(None) };
        let wanted = joined(&knob.wanted(self)?);
        let check = knob.pass(have.clone(), wanted.clone());
        if number(&have) >= number(&wanted) {
            return Ok(Some(check));
        }
        let enough = self.file_room().is_some_and(|room| room >= self.question.connections);
        let verdict = if enough || self.host.may(Privilege::SysAdmin) { Verdict::Warn } else { Verdict::Fail };
        Ok(Some(check.but(verdict, set(knob.name, &wanted))))
    }

    /// Connections for which files may still be opened, one for each end that is here.
    pub(super) fn file_room(&self) -> Option<u64> {
        let open = self.host.sysctl("fs.file-nr")?.split(' ').next()?.parse().ok()?;
        let left = self.host.sysctl_number("fs.file-max")?.saturating_sub(open);
        Some(left / self.question.role.ends().cast_unsigned())
    }

    pub(super) fn io_uring_disabled(&self, knob: &Knob) -> Option<Check> {
        const GROUP: &str = "kernel.io_uring_group";
        let have = self.host.sysctl_number(knob.name)?;
        let group = self.host.sysctl(GROUP).and_then(|group| group.parse().ok());
        let member = group.is_some_and(|group| self.host.is_in_group(group));
        let permitted = have == 0 || have == 1 && (member || self.host.may(Privilege::SysAdmin));
        let check = knob.pass(have.to_string(), "0");
        if permitted {
            return Some(check);
        }
        let mend = format!("sysctl -w {}=0, or =1 and {GROUP}= the id of a group of the server's user", knob.name);
        Some(check.but(Verdict::Fail, mend))
    }

    /// The table of established connections.
    pub(super) fn established_hash(&self, knob: &Knob) -> Result<Option<Check>, TableError> {
        let Some(have) = self.host.sysctl("net.ipv4.tcp_ehash_entries") else { return Ok(None) };
        // A network namespace that shares the table shows its size as a negative number.
        let chains = number(have.trim_start_matches('-'));
        let wanted = knob.wanted(self)?.first().copied().unwrap_or_default();
        let check = knob.pass(format!("{chains} chains"), wanted.to_string());
        if chains >= wanted {
            return Ok(Some(check));
        }
        let mend =
            format!("boot with {}={wanted}: GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, a reboot", knob.name);
        Ok(Some(check.but(Verdict::Warn, mend)))
    }
}

/// Connections that a firewall can track, and those that it does.
pub(super) const CONNTRACK: &str = "net.netfilter.nf_conntrack_max";
pub(super) const CONNTRACK_COUNT: &str = "net.netfilter.nf_conntrack_count";

/// What is larger than 63 bits hold is as good as the largest of them.
fn number(text: &str) -> i64 {
    text.parse::<u64>().map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX))
}

fn joined(values: &[i64]) -> String {
    values.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
}

/// The command that sets a sysctl.
fn set(name: &str, value: &str) -> String {
    if value.contains(' ') { format!("sysctl -w {name}='{value}'") } else { format!("sysctl -w {name}={value}") }
}
