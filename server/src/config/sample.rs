//! The whole configuration as a commented file.

use super::Config;
use super::setting::Setting;
use super::settings::{CHANNEL_SETTINGS, SECTIONS};

/// Columns of a comment.
const COLUMNS: usize = 118;

/// What begins a line that shows a setting without setting it.
pub(super) const SHOWN: &str = "#: ";

const HEAD: &str = "Every setting of the server with its default, as `crore default-config` prints it. Lines that begin \
     with \"#: \" show settings that are absent by default. Each can be set by a variable as well: CRORE_LISTEN, \
     CRORE_LIMITS_PING_INTERVAL. `crore check-config FILE` says whether a file is right, and `crore config-doc` which \
     settings can be changed while the server runs.";

const CHANNELS_ABOUT: &str = "What holds for channels, as many of these as it takes. Of those whose pattern matches a \
     channel's name the most specific counts: the one with the most text before its first {user} or *; if that is the \
     same, a name before one with {user} before one with *. Who may do what, where it does not say it, the next one \
     says. What is changed while the server runs counts for requests to come; who is subscribed stays so.";

impl Config {
    /// A configuration file with every setting, its meaning and its default; it sets nothing to anything else.
    #[must_use]
    pub fn sample() -> String {
        let mut text = String::new();
        comment(&mut text, HEAD);
        for section in SECTIONS {
            text.push('\n');
            if !section.about.is_empty() {
                comment(&mut text, section.about);
            }
            if !section.name.is_empty() {
                text += &format!("[{}]\n", section.name);
            }
            for setting in section.settings {
                show(&mut text, setting);
            }
        }
        text.push('\n');
        comment(&mut text, CHANNELS_ABOUT);
        text += &format!("{SHOWN}[[channels]]\n");
        for setting in CHANNEL_SETTINGS {
            show(&mut text, setting);
        }
        text
    }
}

fn show<T: Clone + Default>(text: &mut String, setting: &Setting<T>) {
    let name = setting.name();
    comment(text, setting.meaning);
    match (setting.default(), setting.example) {
        (Some(value), _) => *text += &format!("{name} = {value}\n"),
        (None, Some(value)) => *text += &format!("{SHOWN}{name} = {value}\n"),
        (None, None) => {}
    }
}

/// Adds a comment in lines that fit.
fn comment(text: &mut String, sentences: &str) {
    let mut line = String::from("#");
    for word in sentences.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            *text += &line;
            text.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line += word;
    }
    *text += &line;
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_the_repository_is_the_sample() {
        let command = "cargo run --release -- default-config >server/crore.toml";
        assert!(include_str!("../../crore.toml") == Config::sample(), "write it anew: {command}");
    }

    #[test]
    fn comments_fit_their_columns() {
        for line in Config::sample().lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }
}
