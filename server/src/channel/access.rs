//! Who may do what in a channel.
//!
//! Whoever needs to know asks [`ChannelRules::may`], or in a handler [`Call::require`](crate::Call::require).

use std::str::FromStr;

use super::{ChannelRules, Pattern};

/// What a client does in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To subscribe to it, or to join it.
    Subscribe,
    /// To publish there.
    Publish,
    /// To see who is there.
    SeePresence,
    /// To read what was published before.
    SeeHistory,
}

/// One way to be among those who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `anyone`: every client.
    Anyone,
    /// `users`: clients of whom it is known who they are.
    Users,
    /// `owner`: the user whose name stands in the channel's, where the pattern has `{user}`.
    Owner,
    /// `granted`: users whose token names the channel, or a pattern that means it.
    Granted,
    /// `role:NAME`: users whose token has the role.
    Role(Box<str>),
    /// `subscribers`: whoever is subscribed to the channel.
    Subscribers,
    /// `token`: who shows a token for the channel; when it is about more than to subscribe, who has shown one with its
    /// subscription.
    Token,
}

/// Those who may: in one of several ways, or nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience(Box<[Who]>);

/// The permissions of a rule. Where one is absent, the next rule that matches has its say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who may subscribe and join. Without any: anyone.
    pub subscribe: Option<Audience>,
    /// Who may publish. Without any: anyone.
    pub publish: Option<Audience>,
    /// Who may see who is there. Without any: subscribers.
    pub presence: Option<Audience>,
    /// Who may read what was published before. Without any: subscribers.
    pub history: Option<Audience>,
}

/// What a user's token says of channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Channels of which the user is a member.
    pub channels: Box<[Pattern]>,
    /// Its roles.
    pub roles: Box<[Box<str>]>,
}

impl Grants {
    pub(crate) fn heap_bytes(&self) -> usize {
        let channels = self.channels.iter().map(|pattern| size_of::<Pattern>() + pattern.heap_bytes());
        let roles = self.roles.iter().map(|role| size_of::<Box<str>>() + role.len());
        channels.chain(roles).sum()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'i> {
    /// The user's name, if it is known.
    pub user: Option<&'i str>,
    /// What the user's token says.
    pub grants: Option<&'i Grants>,
    /// Whether it is subscribed to the channel.
    pub is_subscribed: bool,
    /// Whether it has shown a token for the channel that is still good.
    pub has_token: bool,
}

/// Words that name nobody in particular, or nobody at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No such word.
    #[error("expected {expected}, found `{0}`", expected = EXPECTED)]
    Unknown(String),
    /// A list that is empty, or has `nobody` and others.
    #[error("`nobody` stands alone, and in place of an empty list")]
    Nobody,
    /// There is no user's name in the pattern.
    #[error("`owner` is the user whose name stands in the channel's: write `{{user}}` in its place in the pattern")]
    NoOwner,
    /// To be subscribed in order to subscribe.
    #[error("`subscribers` can't say who may subscribe")]
    Circular,
}

/// What an audience is made of, for operators.
pub(crate) const EXPECTED: &str = "anyone, users, owner, granted, role:NAME, subscribers, token or nobody";

impl Action {
    const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::SeePresence, Self::SeeHistory];

    /// What a client is told that may not.
    #[must_use]
    pub const fn refusal(self) -> &'static str {
        match self {
            Self::Subscribe => "not everyone may subscribe to this channel (`may_subscribe` of its rule)",
            Self::Publish => "not everyone may publish to this channel (`may_publish` of its rule)",
            Self::SeePresence => "not everyone may see who is in this channel (`may_see_presence` of its rule)",
            Self::SeeHistory => "not everyone may read the history of this channel (`may_see_history` of its rule)",
        }
    }
}

impl Who {
    fn includes(&self, identity: &Identity<'_>, pattern: &Pattern, channel: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::Users => identity.user.is_some(),
            Self::Owner => identity.user.is_some() && pattern.user_in(channel) == identity.user,
            Self::Granted => {
                identity.grants.is_some_and(|grants| grants.channels.iter().any(|own| own.matches(channel)))
            }
            Self::Role(role) => identity.grants.is_some_and(|grants| grants.roles.contains(role)),
            Self::Subscribers => identity.is_subscribed,
            Self::Token => identity.has_token,
        }
    }

    /// The word of the configuration.
    fn word(&self) -> String {
        match self {
            Self::Anyone => "anyone".to_owned(),
            Self::Users => "users".to_owned(),
            Self::Owner => "owner".to_owned(),
            Self::Granted => "granted".to_owned(),
            Self::Role(role) => format!("role:{role}"),
            Self::Subscribers => "subscribers".to_owned(),
            Self::Token => "token".to_owned(),
        }
    }
}

impl FromStr for Who {
    type Err = AccessError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "anyone" => Self::Anyone,
            "users" => Self::Users,
            "owner" => Self::Owner,
            "granted" => Self::Granted,
            "subscribers" => Self::Subscribers,
            "token" => Self::Token,
            _ => match word.strip_prefix("role:") {
                Some(role) if !role.is_empty() => Self::Role(role.into()),
                _ => return Err(AccessError::Unknown(word.to_owned())),
            },
        })
    }
}

impl Audience {
    /// From the words of the configuration.
    ///
    /// # Errors
    /// One of them is none, or there is none.
    pub fn from_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Self, AccessError> {
        let words: Vec<&str> = words.into_iter().collect();
        match words.as_slice() {
            ["nobody"] => Ok(Self::default()),
            words if words.is_empty() || words.contains(&"nobody") => Err(AccessError::Nobody),
            words => words.iter().map(|word| word.parse()).collect::<Result<_, _>>().map(Self),
        }
    }

    /// The words that [`Self::from_words`] reads.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let nobody = self.0.is_empty().then(|| "nobody".to_owned());
        self.0.iter().map(Who::word).chain(nobody)
    }

    /// Whether this is one of the ways.
    #[must_use]
    pub fn has(&self, who: &Who) -> bool {
        self.0.contains(who)
    }

    /// Whether a role is one of the ways, or to be granted.
    #[must_use]
    pub fn needs_grants(&self) -> bool {
        self.0.iter().any(|who| matches!(who, Who::Granted | Who::Role(_)))
    }

    /// Whether it has to be known who somebody is.
    #[must_use]
    pub fn needs_user(&self) -> bool {
        self.0.iter().any(|who| matches!(who, Who::Users | Who::Owner))
    }

    fn includes(&self, identity: &Identity<'_>, pattern: &Pattern, channel: &str) -> bool {
        self.0.iter().any(|who| who.includes(identity, pattern, channel))
    }
}

impl Access {
    /// Who may do this, if the rule says so.
    #[must_use]
    pub const fn audience(&self, action: Action) -> Option<&Audience> {
        match action {
            Action::Subscribe => self.subscribe.as_ref(),
            Action::Publish => self.publish.as_ref(),
            Action::SeePresence => self.presence.as_ref(),
            Action::SeeHistory => self.history.as_ref(),
        }
    }

    /// All that the rule says.
    pub fn audiences(&self) -> impl Iterator<Item = &Audience> {
        [&self.subscribe, &self.publish, &self.presence, &self.history].into_iter().flatten()
    }

    /// Whether the permissions make sense in a rule with this pattern.
    ///
    /// # Errors
    /// One of them does not.
    pub fn check(&self, pattern: &Pattern) -> Result<(), AccessError> {
        if !pattern.names_user() && self.audiences().any(|audience| audience.has(&Who::Owner)) {
            return Err(AccessError::NoOwner);
        }
        if self.subscribe.as_ref().is_some_and(|audience| audience.has(&Who::Subscribers)) {
            return Err(AccessError::Circular);
        }
        Ok(())
    }
}

impl ChannelRules {
    /// Whether somebody may do something in a channel: by the most specific rule that matches its name and says who
    /// may. Where none does, anyone may subscribe and publish, and subscribers see presence and history.
    #[must_use]
    pub fn may(&self, action: Action, identity: &Identity<'_>, channel: &str) -> bool {
        match (self.audience(action, channel), action) {
            (Some((pattern, audience)), _) => audience.includes(identity, pattern, channel),
            (None, Action::Subscribe | Action::Publish) => true,
            (None, Action::SeePresence | Action::SeeHistory) => identity.is_subscribed,
        }
    }

    /// Whether a token for the channel lets somebody do anything there.
    pub(crate) fn takes_token(&self, channel: &str) -> bool {
        Action::ALL.into_iter().filter_map(|action| self.audience(action, channel)).any(|(_, all)| all.has(&Who::Token))
    }
}

#[cfg(test)]
mod tests;
