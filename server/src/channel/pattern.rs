//! Patterns: which channels a rule is for, and whose channel one is.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

/// Stands in a pattern for the name of a user.
const USER: &str = "{user}";

/// A channel's name, with `{user}` in the place of a user's name if it has one; a `*` at the end stands for any more.
///
/// ```
/// use crore_server::channel::Pattern;
///
/// let inbox: Pattern = "inbox:{user}".parse().unwrap();
/// assert_eq!(inbox.user_in("inbox:ann"), Some("ann"));
/// assert!(inbox.matches("inbox:bob") && !inbox.matches("inbox:") && !inbox.matches("outbox:bob"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before the user, or all of it.
    head: Box<str>,
    /// What stands behind the user, if there is one.
    tail: Option<Box<str>>,
    is_prefix: bool,
}

impl Pattern {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.head.len() + self.tail.as_ref().map_or(0, |tail| tail.len())
    }
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
    /// Braces around something else, or a second time.
    #[error("`{0}`: braces stand in a pattern only as `{{user}}`, for the name of a user, and once")]
    Braces(String),
    /// Nobody can say where the user's name ends.
    #[error("`{0}`: between `{{user}}` and `*` there must be something that ends the name, such as `:`")]
    EndlessUser(String),
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        let (head, tail) = name.split_once(USER).map_or((name, None), |(head, tail)| (head, Some(tail)));
        let has = |what: &[char]| head.contains(what) || tail.is_some_and(|tail| tail.contains(what));
        if text.is_empty() {
            Err(PatternError::Empty)
        } else if has(&['*']) {
            Err(PatternError::StarInside(text.to_owned()))
        } else if has(&['{', '}']) {
            Err(PatternError::Braces(text.to_owned()))
        } else if is_prefix && tail == Some("") {
            Err(PatternError::EndlessUser(text.to_owned()))
        } else {
            Ok(Self { head: head.into(), tail: tail.map(Into::into), is_prefix })
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        if let Some(tail) = &self.tail {
            write!(f, "{USER}{tail}")?;
        }
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

impl Pattern {
    /// Whether the pattern means this channel.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.tail {
            Some(_) => self.user_in(name).is_some(),
            None if self.is_prefix => name.starts_with(&*self.head),
            None => name == &*self.head,
        }
    }

    /// Whether the pattern has a place for a user's name.
    #[must_use]
    pub const fn names_user(&self) -> bool {
        self.tail.is_some()
    }

    /// What stands in a channel's name in the place of the user. Before a `*` it ends where what follows it in the
    /// pattern stands for the first time: `inbox:ann:bob:x` is Ann's by `inbox:{user}:*`, and a user `ann:bob` has no
    /// such channel.
    #[must_use]
    pub fn user_in<'n>(&self, name: &'n str) -> Option<&'n str> {
        let tail = self.tail.as_deref()?;
        let rest = name.strip_prefix(&*self.head)?;
        let user = if self.is_prefix { rest.split_once(tail)?.0 } else { rest.strip_suffix(tail)? };
        (!user.is_empty()).then_some(user)
    }

    /// Puts patterns that match one channel in order, the most specific first: the one with the most text before its
    /// first `{user}` or `*`; of those with the same one without either before `{user}` and that before `*`; then the
    /// one with the most text behind `{user}`.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let class = match self.tail {
            None if !self.is_prefix => 2,
            Some(_) => 1,
            None => 0,
        };
        Reverse((self.head.len(), class, self.tail.as_ref().map_or(0, |tail| tail.len()), !self.is_prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_are_checked_and_display_as_they_were_written() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Empty));
        assert!(matches!("a*b*".parse::<Pattern>(), Err(PatternError::StarInside(_))));
        for braces in ["{user_id}", "inbox:{user", "inbox:user}", "{}", "dm:{user}:{user}"] {
            assert!(matches!(braces.parse::<Pattern>(), Err(PatternError::Braces(_))), "{braces}");
        }
        assert!(matches!("inbox:{user}*".parse::<Pattern>(), Err(PatternError::EndlessUser(_))));
        for text in ["*", "a", "chat:*", "inbox:{user}", "{user}", "{user}:*", "a{user}b", "a{user}b*"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        let problem = "{name}".parse::<Pattern>().unwrap_err().to_string();
        assert!(problem.contains("only as `{user}`"), "{problem}");
    }

    // capability: 64
    #[test]
    fn a_user_stands_in_one_place() {
        let user = |text: &str, name| pattern(text).user_in(name).map(str::to_owned);
        for (text, name, owner) in [
            ("inbox:{user}", "inbox:ann", Some("ann")),
            ("inbox:{user}", "inbox:ann:bob", Some("ann:bob")),
            ("inbox:{user}", "inbox:", None),
            ("inbox:{user}", "inbox", None),
            ("inbox:{user}", "outbox:ann", None),
            ("{user}:in", "ann:in", Some("ann")),
            ("{user}:in", "ann:in:in", Some("ann:in")),
            ("{user}:in", ":in", None),
            ("{user}:in", "ann:inn", None),
            ("inbox:{user}:*", "inbox:ann:7", Some("ann")),
            ("inbox:{user}:*", "inbox:ann:", Some("ann")),
            ("inbox:{user}:*", "inbox:ann:bob:x", Some("ann")),
            ("inbox:{user}:*", "inbox:ann", None),
            ("inbox:{user}:*", "inbox::x", None),
            ("inbox:*", "inbox:ann", None),
        ] {
            assert_eq!(user(text, name).as_deref(), owner, "{text}, {name}");
            assert_eq!(pattern(text).matches(name), owner.is_some() || text == "inbox:*", "{text}, {name}");
        }
        assert!(pattern("chat:*").matches("chat:") && !pattern("chat:*").matches("chat"));
        assert!(pattern("chat").matches("chat") && !pattern("chat").matches("chat:"));
    }

    // capability: 64
    #[test]
    fn the_most_specific_comes_first() {
        let order = [
            "inbox:bob:news",
            "inbox:bob:*",
            "inbox:{user}:news",
            "inbox:{user}:new*",
            "inbox:{user}:*",
            "inbox:*",
            "in*",
            "{user}:news",
            "*",
        ];
        for (index, first) in order.iter().enumerate() {
            assert!(pattern(first).matches("inbox:bob:news") || *first == "{user}:news", "{first}");
            for second in &order[index + 1..] {
                assert!(pattern(first).order() < pattern(second).order(), "{first} before {second}");
            }
        }
        assert!(pattern("a{user}b").order() < pattern("a{user}b*").order());
    }
}
