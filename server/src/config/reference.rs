//! The reference of all settings, in Markdown.

use super::Config;
use super::load::variable;
use super::setting::{Reload, Setting};
use super::settings::{CHANNEL_SETTINGS, SECTIONS};

const HEAD: &str = "\
# Settings

A flag outranks the environment, that the file, and that the default. The file is TOML; `crore default-config` prints
one, and `crore check-config FILE` says what is wrong with one. On SIGHUP the server reads file and environment again:
what is *live* counts from then on, what says *restart* from the next start.
";

const CHANNELS_HEAD: &str = "
## [[channels]]

What holds for channels. Of the entries whose pattern matches a channel's name the most specific counts: the one with the
most text before its first `{user}` or `*`; if that is the same, a name before one with `{user}` before one with `*`. Who
may do what (`may_…`), where it does not say it, the next one says. They have no variables.

| setting | value | example | changes | meaning |
|---|---|---|---|---|
";

impl Config {
    /// The reference: a table for each section, a line for each setting.
    #[must_use]
    pub fn reference() -> String {
        let mut text = HEAD.to_owned();
        for section in SECTIONS {
            let title = if section.name.is_empty() { "At the top" } else { &format!("[{}]", section.name) };
            text += &format!("\n## {title}\n\n");
            if !section.about.is_empty() {
                text += &format!("{}\n\n", section.about);
            }
            text += "| setting | value | default | variable | changes | meaning |\n|---|---|---|---|---|---|\n";
            for setting in section.settings {
                let default = setting.default().map_or_else(|| "absent".to_owned(), |value| code(&value));
                row(&mut text, setting, &[default, code(&variable(setting.key))]);
            }
        }
        text += CHANNELS_HEAD;
        for setting in CHANNEL_SETTINGS {
            row(&mut text, setting, &[code(setting.example.unwrap_or_default())]);
        }
        text
    }
}

/// A line of a table: what its columns have in common, around those that differ.
fn row<T: Clone + Default>(text: &mut String, setting: &Setting<T>, differing: &[String]) {
    let changes = match setting.reload {
        Reload::Live => "live",
        Reload::Restart => "restart",
    };
    let (key, expected) = (code(setting.key), setting.expected());
    let cells = [&key, &*expected].into_iter().chain(differing.iter().map(String::as_str));
    for cell in cells.chain([changes, setting.meaning]) {
        *text += &format!("| {} ", cell.replace('|', "\\|"));
    }
    *text += "|\n";
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::settings;

    #[test]
    fn every_setting_has_a_line_with_as_many_cells_as_its_table() {
        let reference = Config::reference();
        let keys = settings().map(|setting| setting.key).chain(CHANNEL_SETTINGS.iter().map(|setting| setting.key));
        for key in keys {
            let start = format!("| `{key}` |");
            assert_eq!(reference.lines().filter(|line| line.starts_with(&start)).count(), 1, "{key}");
        }
        let mut columns = 0;
        for line in reference.lines().filter(|line| line.starts_with('|')) {
            let cells = line.replace("\\|", "").matches('|').count();
            if line.starts_with("| setting") {
                columns = cells;
            }
            assert_eq!(cells, columns, "{line}");
        }
    }

    #[test]
    fn a_line_says_value_default_variable_and_what_a_change_takes() {
        let reference = Config::reference();
        for line in [
            "| `listen` | an address with a port, such as 127.0.0.1:8080 or [::]:8080 | `\"127.0.0.1:8080\"` | \
             `CRORE_LISTEN` | restart | ",
            "| `cores` | a whole number from 1 to 64 | absent | `CRORE_CORES` | restart | ",
            "| `log.level` | a level such as info, or levels by module such as \"info,crore_engine=debug\" | \
             `\"info\"` | `CRORE_LOG_LEVEL` | live | ",
        ] {
            assert!(reference.contains(line), "{line} is not in:\n{reference}");
        }
    }
}
