//! What another configuration changes in a server that runs.

use super::Config;
use super::setting::Reload;
use super::settings::settings;

/// What becomes of a configuration when another one is wanted.
#[derive(Clone, Debug)]
pub struct Change {
    /// What holds from now on: what was, with all that can be changed now.
    pub config: Config,
    /// The settings that have another value now, by key.
    pub applied: Vec<&'static str>,
    /// Those that are wanted to have another one, and will after a restart.
    pub kept: Vec<&'static str>,
}

impl Config {
    /// Goes over to another configuration, as far as a server that runs can.
    #[must_use]
    pub fn change_to(&self, wanted: &Self) -> Change {
        let mut change = Change { config: self.clone(), applied: Vec::new(), kept: Vec::new() };
        for setting in settings().filter(|setting| setting.toml(self) != setting.toml(wanted)) {
            match setting.reload {
                Reload::Live => {
                    setting.copy(&mut change.config, wanted);
                    change.applied.push(setting.key);
                }
                Reload::Restart => change.kept.push(setting.key),
            }
        }
        if self.channels != wanted.channels {
            change.config.channels.clone_from(&wanted.channels);
            change.applied.push("channels");
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelRule;
    use crate::config::settings::CHANNEL_SETTINGS;

    #[test]
    fn what_can_be_changed_is_and_the_rest_is_named() {
        let config = Config::default();
        let mut wanted = Config::default();
        wanted.welcome.message = "Hi".to_owned();
        wanted.engine.message_bytes_max = 7;
        wanted.listen.set_port(1);
        wanted.channels.push(ChannelRule { pattern: "a".parse().unwrap(), ..ChannelRule::default() });
        let change = config.change_to(&wanted);
        assert_eq!(change.applied, ["welcome.message", "channels"]);
        assert_eq!(change.kept, ["listen", "limits.message_bytes_max"]);
        assert_eq!((change.config.welcome.message.as_str(), &change.config.channels), ("Hi", &wanted.channels));
        assert_eq!(change.config.listen, config.listen);
        // What needs a restart goes on to need it.
        let again = change.config.change_to(&wanted);
        assert!(again.applied.is_empty());
        assert_eq!(again.kept, change.kept);
    }

    #[test]
    fn rules_are_taken_as_a_whole() {
        assert!(CHANNEL_SETTINGS.iter().all(|setting| setting.reload == Reload::Live));
    }
}
