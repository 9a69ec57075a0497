//! Options of channels, chosen by the first rule whose pattern matches the name.

use std::fmt;
use std::str::FromStr;

use crore_engine::Overflow;

use super::slow::SlowChannel;

/// What is decided for a channel as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Whether a publisher that is subscribed receives its own messages. `None` leaves it to the
    /// message's `echo`, and that to its type.
    pub echo: Option<bool>,
}

/// Options for the channels that a pattern matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRule {
    /// Which channels.
    pub pattern: Pattern,
    /// What holds for them.
    pub options: ChannelOptions,
    /// What happens to messages at subscribers that are behind.
    pub slow: SlowChannel,
}

/// A name, or a prefix followed by `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_prefix: bool,
}

/// A pattern that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing at all, which matches nothing.
    #[error("a pattern can't be empty: write a channel's name, a prefix followed by `*`, or `*` for every channel")]
    Empty,
    /// A `*` before the end.
    #[error("`{0}`: a pattern has `*` only at its end")]
    StarInside(String),
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if text.is_empty() {
            Err(PatternError::Empty)
        } else if prefix.contains('*') {
            Err(PatternError::StarInside(text.to_owned()))
        } else {
            Ok(Self { text: prefix.to_owned(), is_prefix })
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

impl Pattern {
    /// Whether the pattern means this channel.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }

    /// Whether the pattern means every channel that the other one means.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text) && (self.is_prefix || !other.is_prefix)
    }
}

/// The rules, in order.
#[derive(Clone, Debug, Default)]
pub struct ChannelRules {
    rules: Vec<ChannelRule>,
    /// Whether any of them says what happens to messages at subscribers that are behind.
    any_slow: bool,
}

impl ChannelRules {
    /// Takes the rules in the order of their precedence.
    #[must_use]
    pub fn new(rules: Vec<ChannelRule>) -> Self {
        let any_slow = rules.iter().any(|rule| rule.slow.policy.is_some());
        Self { rules, any_slow }
    }

    /// The options of a channel: those of the first rule that matches, else the defaults.
    #[must_use]
    pub fn options(&self, name: &str) -> ChannelOptions {
        self.find(name).map_or_else(ChannelOptions::default, |rule| rule.options)
    }

    /// What happens to a message of a channel, with this `data` or without any, at subscribers that are behind.
    pub(crate) fn overflow(&self, name: &str, data: Option<&str>) -> Overflow {
        if !self.any_slow {
            return Overflow::Limits;
        }
        self.find(name).map_or(Overflow::Limits, |rule| rule.slow.overflow(data))
    }

    fn find(&self, name: &str) -> Option<&ChannelRule> {
        self.rules.iter().find(|rule| rule.pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, echo: bool) -> ChannelRule {
        let options = ChannelOptions { echo: Some(echo) };
        ChannelRule { pattern: pattern.parse().unwrap(), options, ..ChannelRule::default() }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = ChannelRules::new(vec![rule("chat:lobby", true), rule("chat:*", false)]);
        assert_eq!(rules.options("chat:lobby").echo, Some(true));
        assert_eq!(rules.options("chat:7").echo, Some(false));
        assert_eq!(rules.options("chat").echo, None);
        assert_eq!(ChannelRules::new(vec![rule("*", true)]).options("any").echo, Some(true));
    }

    #[test]
    fn a_pattern_covers_those_that_mean_no_other_channel() {
        let covers = |a: &str, b: &str| a.parse::<Pattern>().unwrap().covers(&b.parse().unwrap());
        assert!(covers("*", "chat:*") && covers("chat:*", "chat:*") && covers("chat:*", "chat:7") && covers("a", "a"));
        assert!(!covers("chat:*", "*") && !covers("a", "a*") && !covers("a", "b"));
    }

    #[test]
    fn patterns_are_checked() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Empty));
        assert!(matches!("a*b*".parse::<Pattern>(), Err(PatternError::StarInside(_))));
    }
}
