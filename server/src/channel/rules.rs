//! What holds for channels, chosen by the most specific rule whose pattern matches the name.

use std::time::Duration;

use crore_engine::Overflow;
use crore_engine::limits::SlowConsumer;

use super::access::{Access, Action, Audience};
use super::pattern::Pattern;
use super::slow::SlowChannel;
use crate::history::Retention;

/// What is decided for a channel as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Whether a publisher that is subscribed receives its own messages. `None` leaves it to the
    /// message's `echo`, and that to its type.
    pub echo: Option<bool>,
    /// How many of the last publications are kept. `None`: the channel has no history.
    pub history: Option<u32>,
    /// Whether it is known who subscribes, and told. `None`: it is not.
    pub presence: Option<ChannelPresence>,
    /// How long a publication is kept, if it is not pushed out by others before. `None`: for as long as there is room.
    pub history_time: Option<Duration>,
}

/// What subscribers of a channel learn of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPresence {
    /// Whoever asks is told who is there.
    List,
    /// All are told as well who comes and goes.
    Events,
}

impl ChannelOptions {
    /// What is kept of the publications, if the channel has a history.
    pub(crate) fn retention(&self) -> Option<Retention> {
        let age_ms = self.history_time.map_or(u64::MAX, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.history.map(|messages| Retention { messages: messages as usize, age_ms })
    }
}

/// What holds for the channels that a pattern matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRule {
    /// Which channels.
    pub pattern: Pattern,
    /// How they work.
    pub options: ChannelOptions,
    /// What happens to messages at subscribers that are behind.
    pub slow: SlowChannel,
    /// Who may do what there.
    pub access: Access,
    /// What the backend decides.
    pub webhook: ChannelWebhook,
}

/// What a backend is asked about a channel ([`webhook`](crate::webhook)). `None` leaves it to the next rule that matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelWebhook {
    /// Whether a client may subscribe or join.
    pub subscribe: Option<bool>,
    /// Whether a client may publish, and what.
    pub publish: Option<bool>,
}

/// The rules, the most specific first.
#[derive(Clone, Debug, Default)]
pub struct ChannelRules {
    rules: Vec<ChannelRule>,
    /// Whether any of them says what happens to messages at subscribers that are behind.
    any_slow: bool,
    /// What happens to them where none says so.
    slow_elsewhere: Overflow,
    /// Whether any of them says who may do what.
    any_access: bool,
    /// Whether any channel has a presence.
    any_presence: bool,
}

impl ChannelRules {
    /// Puts the rules into the order of their precedence. Of those that are equally specific and match the same name
    /// the first counts.
    #[must_use]
    pub fn new(mut rules: Vec<ChannelRule>) -> Self {
        rules.sort_by_key(|rule| rule.pattern.order());
        let any_slow = rules.iter().any(|rule| rule.slow.policy.is_some());
        let any_access = rules.iter().any(|rule| rule.access.audiences().next().is_some());
        let any_presence = rules.iter().any(|rule| rule.options.presence.is_some());
        Self { rules, any_slow, slow_elsewhere: Overflow::Limits, any_access, any_presence }
    }

    /// What happens to messages at subscribers that are behind where no rule says so.
    #[must_use]
    pub(crate) fn slow_elsewhere(mut self, policy: SlowConsumer) -> Self {
        self.slow_elsewhere = match policy {
            SlowConsumer::Disconnect => Overflow::Limits,
            SlowConsumer::DropNewest => Overflow::DropNewest,
            SlowConsumer::DropOldest => Overflow::DropOldest,
        };
        self
    }

    /// The options of a channel: those of the most specific rule that matches, else the defaults.
    #[must_use]
    pub fn options(&self, name: &str) -> ChannelOptions {
        self.matching(name).next().map_or_else(ChannelOptions::default, |rule| rule.options)
    }

    /// What happens to a message of a channel, with this `data` or without any, at subscribers that are behind.
    pub(crate) fn overflow(&self, name: &str, data: Option<&str>) -> Overflow {
        if !self.any_slow {
            return self.slow_elsewhere;
        }
        let rule = self.matching(name).next().filter(|rule| rule.slow.policy.is_some());
        rule.map_or(self.slow_elsewhere, |rule| rule.slow.overflow(data))
    }

    /// Who may do something in a channel: what the most specific rule says that says it, with its pattern.
    pub(super) fn audience(&self, action: Action, name: &str) -> Option<(&Pattern, &Audience)> {
        if !self.any_access {
            return None;
        }
        self.matching(name).find_map(|rule| Some((&rule.pattern, rule.access.audience(action)?)))
    }

    /// Whether any rule says who may do what.
    pub(crate) const fn any_access(&self) -> bool {
        self.any_access
    }

    /// Whether it is known of any channel who subscribes.
    pub(crate) const fn any_presence(&self) -> bool {
        self.any_presence
    }

    /// Whether the backend is asked something about a channel: what the most specific rule says that says it. One that is
    /// about something else must not open what another one closes.
    pub(crate) fn asks(&self, name: &str, about: fn(&ChannelWebhook) -> Option<bool>) -> bool {
        self.matching(name).find_map(|rule| about(&rule.webhook)).unwrap_or(false)
    }

    fn matching(&self, name: &str) -> impl Iterator<Item = &ChannelRule> {
        self.rules.iter().filter(move |rule| rule.pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::SlowPolicy;

    fn rule(pattern: &str, echo: bool) -> ChannelRule {
        let options = ChannelOptions { echo: Some(echo), ..ChannelOptions::default() };
        ChannelRule { pattern: pattern.parse().unwrap(), options, ..ChannelRule::default() }
    }

    #[test]
    fn the_most_specific_rule_that_matches_counts() {
        let rules = ChannelRules::new(vec![rule("chat:*", false), rule("chat:lobby", true)]);
        assert_eq!(rules.options("chat:lobby").echo, Some(true));
        assert_eq!(rules.options("chat:7").echo, Some(false));
        assert_eq!(rules.options("chat").echo, None);
        assert_eq!(ChannelRules::new(vec![rule("*", true)]).options("any").echo, Some(true));
    }

    // capability: 64
    #[test]
    fn a_rule_that_does_not_speak_of_the_backend_leaves_it_to_the_next() {
        let asked = |pattern: &str, publish| {
            let webhook = ChannelWebhook { subscribe: None, publish };
            ChannelRule { webhook, ..rule(pattern, true) }
        };
        let rules =
            ChannelRules::new(vec![asked("chat:a", None), asked("chat:b", Some(false)), asked("chat:*", Some(true))]);
        for (name, expected) in [("chat:a", true), ("chat:b", false), ("chat:c", true), ("other", false)] {
            assert_eq!(rules.asks(name, |webhook| webhook.publish), expected, "{name}");
            assert!(!rules.asks(name, |webhook| webhook.subscribe), "{name}");
        }
    }

    #[test]
    fn of_equals_the_first_counts() {
        let rules = ChannelRules::new(vec![rule("a{user}:x*", true), rule("a{user}:y*", false)]);
        assert_eq!(rules.options("ab:y:x").echo, Some(true));
        assert_eq!(rules.options("ab:y").echo, Some(false));
    }
    // capability: 66
    #[test]
    fn where_no_rule_says_what_is_dropped_the_limits_do() {
        let slow = SlowChannel { policy: Some(SlowPolicy::Disconnect), conflate_key: None };
        let rules = || {
            let orders = ChannelRule { slow: slow.clone(), ..rule("orders", false) };
            ChannelRules::new(vec![orders, rule("chat:*", false)])
        };
        for (policy, overflow) in [
            (SlowConsumer::Disconnect, Overflow::Limits),
            (SlowConsumer::DropNewest, Overflow::DropNewest),
            (SlowConsumer::DropOldest, Overflow::DropOldest),
        ] {
            let rules = rules().slow_elsewhere(policy);
            assert_eq!(rules.overflow("orders", None), Overflow::Disconnect);
            assert_eq!([rules.overflow("chat:1", None), rules.overflow("other", None)], [overflow; 2]);
            assert_eq!(ChannelRules::new(Vec::new()).slow_elsewhere(policy).overflow("any", None), overflow);
        }
    }
}
