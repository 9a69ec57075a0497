//! The plain chat: one room at a path of its own (`chat.path`), for clients that know neither channels nor identifiers.
//!
//! | a client sends | everyone in the room receives |
//! |---|---|
//! | `{"type":"join","username":…}` | `{"type":"message","username":"System","content":"… has joined the chat"}` |
//! | `{"type":"message","content":…}` | `{"type":"message","username":…,"content":…}`, the sender too |
//! | `{"type":"private","to":…,"content":…}` | only those with that name: `{"type":"private","username":…,"from":…,"to":…,"content":…}` |
//! | `{"type":"typing","isTyping":…}` | all but the sender: `{"type":"typing","username":…,"isTyping":…,"content":"is typing..."}` |
//! | `{"type":"ping"}` | only the sender: `{"type":"pong"}`, at once, and it does not count against any limit |
//! | it leaves | `{"type":"message","username":"System","content":"… has left the chat"}` |
//!
//! A newcomer is welcomed by the same kind of message, and what can't be done is answered by one of type `error`, whose
//! `content` says why. Whoever joins again by another name has left by the one before it, which everyone is told first;
//! by the same name, it alone is told once more that it has joined. A connection with a user has the user's name,
//! whatever `join` says. Others take the name that they like, and several may have the same; but no name that a user is
//! online with, who keeps what is said to it for himself, and never the server's own, `System` in capitals or not.
//! Whoever had taken a name before its user came loses it when it next speaks. Every message has a `timestamp`: in
//! milliseconds, or in seconds for clients whose `User-Agent` names Python, which count so and can't show the other.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crore_engine::{ConnectionId, Context, Request};
use serde::{Deserialize, Serialize};

use crate::inbound::PING;
use crate::policy::Policy;
use crate::session::{Connection, House};
use crate::users::is_name;
use crate::wire::Refusal;

/// Who speaks for the server.
const SYSTEM: &str = "System";

/// What is answered to whoever wants that name.
const SERVERS_NAME: &str = "`username` is the server's own name: choose another one";

/// What is answered to whoever wants a user's name, or had it before the user came.
const USERS_NAME: &str = "`username` is the name of a user who is online: join with another one, or with its token";

/// Who has not said its name.
const ANONYMOUS: &str = "Anonymous";

/// What the timestamps for a client count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Milliseconds,
    Seconds,
}

/// All of them: each message is written once for each.
const CLOCKS: [Clock; 2] = [Clock::Milliseconds, Clock::Seconds];

impl Clock {
    fn of(request: &Request<'_>) -> Self {
        let is_python = request.header("User-Agent").is_some_and(|agent| agent.contains("Python"));
        if is_python { Self::Seconds } else { Self::Milliseconds }
    }

    /// Those in the room whose clocks count so. No channel can have such a name.
    const fn topic(self) -> &'static str {
        match self {
            Self::Milliseconds => "\u{1}chat in milliseconds",
            Self::Seconds => "\u{1}chat in seconds",
        }
    }

    fn show(self, now_ms: u64) -> Timestamp {
        match self {
            Self::Milliseconds => Timestamp::Milliseconds(now_ms),
            Self::Seconds => Timestamp::Seconds(now_ms as f64 / 1000.0),
        }
    }
}

/// A connection of the room.
#[derive(Debug)]
pub(crate) struct Member {
    clock: Clock,
    name: Option<Box<str>>,
}

impl Member {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self { clock: Clock::of(request), name: None }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.name.as_ref().map_or(0, |name| name.len())
    }
}

/// Who has joined, on all cores: looked at when somebody joins, leaves or speaks to one of them.
#[derive(Debug, Default)]
pub(crate) struct Members(Mutex<HashMap<ConnectionId, Joined>>);

/// What others may have to know of one who has joined.
#[derive(Debug)]
struct Joined {
    name: Box<str>,
    clock: Clock,
    /// The name is that of its user.
    is_user: bool,
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Joined>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those with a name; only a user's own connections if it is one's.
    fn named(&self, name: &str, is_users: bool) -> Vec<(ConnectionId, Clock)> {
        let is_meant = |member: &Joined| *member.name == *name && (member.is_user || !is_users);
        let members = self.lock();
        members.iter().filter(|(_, member)| is_meant(member)).map(|(id, member)| (*id, member.clock)).collect()
    }
}

/// Whether a name is the one that the server speaks by, or would be read as it.
fn is_system(name: &str) -> bool {
    name.trim().eq_ignore_ascii_case(SYSTEM)
}

/// What a client says.
#[derive(Deserialize)]
pub(crate) struct Said {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    to: String,
    #[serde(default, rename = "isTyping")]
    is_typing: bool,
}

impl Said {
    /// Whether it is a sign of life.
    pub(crate) fn is_ping(&self) -> bool {
        self.kind == PING
    }
}

/// Reads what a client says.
///
/// # Errors
/// It is not JSON, or no message.
pub(crate) fn read(json: &str) -> Result<Said, Refusal> {
    serde_json::from_str(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Refusal::InvalidMessage("it is no message of the chat"),
        _ => Refusal::InvalidJson,
    })
}

/// The answer to a sign of life.
#[derive(Serialize)]
struct Pong {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
}

/// What clients are told, without its time.
#[derive(Clone, Copy, Default, Serialize)]
struct Line<'l> {
    #[serde(rename = "type")]
    kind: &'static str,
    username: &'l str,
    content: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'l str>,
    #[serde(rename = "isTyping", skip_serializing_if = "Option::is_none")]
    is_typing: Option<bool>,
}

#[derive(Serialize)]
struct Stamped<'l> {
    #[serde(flatten)]
    line: Line<'l>,
    timestamp: Timestamp,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Timestamp {
    Milliseconds(u64),
    Seconds(f64),
}

impl Line<'_> {
    fn at(self, now_ms: u64, clock: Clock) -> String {
        let stamped = Stamped { line: self, timestamp: clock.show(now_ms) };
        serde_json::to_string(&stamped).expect("its keys are strings")
    }

    /// By each of the [`CLOCKS`], if it is not too long for whom it is for.
    fn for_all(self, policy: &Policy, now_ms: u64) -> Result<[String; CLOCKS.len()], Refusal> {
        let lines = CLOCKS.map(|clock| self.at(now_ms, clock));
        lines.iter().try_for_each(|line| policy.fits(line.len()))?;
        Ok(lines)
    }
}

const fn says<'l>(username: &'l str, content: &'l str) -> Line<'l> {
    Line { kind: "message", username, content, from: None, to: None, is_typing: None }
}

/// Lets a newcomer hear what is said here and nothing else, and welcomes it.
pub(crate) fn greet(context: &mut Context<'_>, member: &Member, now_ms: u64) {
    context.hear_broadcasts(false);
    if context.subscribe(member.clock.topic()).is_ok() {
        context.send(&says(SYSTEM, "Welcome! Please identify yourself.").at(now_ms, member.clock));
    }
}

/// Tells a client what can't be done.
pub(crate) fn refuse(context: &mut Context<'_>, member: &Member, why: &str, now_ms: u64) {
    context.send(&Line { kind: "error", ..says(SYSTEM, why) }.at(now_ms, member.clock));
}

/// Answers a sign of life.
pub(crate) fn answer_ping(context: &mut Context<'_>, member: &Member, now_ms: u64) {
    let pong = Pong { kind: "pong", timestamp: member.clock.show(now_ms) };
    context.send(&serde_json::to_string(&pong).expect("its keys are strings"));
}

/// Does what a client of the room asks for.
pub(crate) fn hear(
    context: &mut Context<'_>,
    connection: &mut Connection,
    House { shared, policy }: House<'_>,
    said: Said,
    now_ms: u64,
) -> Result<(), Refusal> {
    // A token's user who is called like the server has no name here.
    let user: Option<Box<str>> = connection.name().filter(|name| !is_system(name)).map(Box::from);
    let Some(member) = connection.chat_mut() else { return Ok(()) };
    let is_users = |name: &str| (shared.auth.is_some() || policy.names_users) && shared.users.is_online(name);
    if user.is_none() && said.kind != "join" && member.name.as_deref().is_some_and(is_users) {
        member.name = None;
        leave(context, &shared.chat, now_ms);
        return Err(Refusal::InvalidMessage(USERS_NAME));
    }
    let name = user.clone().or_else(|| member.name.clone()).unwrap_or_else(|| ANONYMOUS.into());
    match said.kind.as_str() {
        "join" => {
            let is_user = user.is_some();
            let name = user.unwrap_or_else(|| said.username.into_boxed_str());
            if !is_name(&name) {
                return Err(Refusal::InvalidMessage("`username` has 1 to 128 bytes of printable text"));
            } else if is_system(&name) {
                return Err(Refusal::InvalidMessage(SERVERS_NAME));
            } else if !is_user && is_users(&name) {
                return Err(Refusal::InvalidMessage(USERS_NAME));
            }
            let joined = Joined { name: name.clone(), clock: member.clock, is_user };
            let before = shared.chat.lock().insert(context.id(), joined);
            let has_joined = format!("{name} has joined the chat");
            if before.as_ref().is_some_and(|before| before.name == name) {
                context.send(&says(SYSTEM, &has_joined).at(now_ms, member.clock));
            } else {
                tell_left(context, before, now_ms);
                tell(context, says(SYSTEM, &has_joined), now_ms);
            }
            member.name = Some(name);
        }
        "message" => {
            let lines = says(&name, &said.content).for_all(policy, now_ms)?;
            for clock in CLOCKS {
                context.publish(clock.topic(), &lines[clock as usize]);
            }
        }
        "typing" => {
            let content = if said.is_typing { "is typing..." } else { "has stopped typing" };
            let typing = Line { kind: "typing", is_typing: Some(said.is_typing), ..says(&name, content) };
            for clock in CLOCKS {
                context.publish_to_others(clock.topic(), &typing.at(now_ms, clock));
            }
        }
        "private" if !policy.clients.private => return Err(Refusal::Forbidden("`clients.private` is off")),
        "private" => {
            let to = shared.chat.named(&said.to, is_users(&said.to));
            if to.is_empty() {
                let nobody = format!("{} is not online", said.to);
                context.send(&Line { kind: "error", ..says(SYSTEM, &nobody) }.at(now_ms, member.clock));
            }
            let line = Line { kind: "private", from: Some(&name), to: Some(&said.to), ..says(&name, &said.content) };
            let lines = line.for_all(policy, now_ms)?;
            for clock in CLOCKS {
                let ids: Vec<_> = to.iter().filter(|(_, theirs)| *theirs == clock).map(|(id, _)| *id).collect();
                context.send_to_each(&ids, &lines[clock as usize]);
            }
        }
        _ => return Err(Refusal::UnknownType(said.kind)),
    }
    Ok(())
}

/// Says that somebody has gone, who had joined.
pub(crate) fn leave(context: &mut Context<'_>, members: &Members, now_ms: u64) {
    let left = members.lock().remove(&context.id());
    tell_left(context, left, now_ms);
}

fn tell_left(context: &mut Context<'_>, left: Option<Joined>, now_ms: u64) {
    if let Some(Joined { name, .. }) = left {
        tell(context, says(SYSTEM, &format!("{name} has left the chat")), now_ms);
    }
}

/// To everyone in the room.
fn tell(context: &mut Context<'_>, line: Line<'_>, now_ms: u64) {
    for clock in CLOCKS {
        context.publish(clock.topic(), &line.at(now_ms, clock));
    }
}

#[cfg(test)]
mod tests {
    use crore_engine::CoreId;

    use super::*;

    fn member(name: &str, is_user: bool) -> Joined {
        Joined { name: name.into(), clock: Clock::Milliseconds, is_user }
    }

    // capability: 41 102
    #[test]
    fn what_is_said_to_a_user_is_for_nobody_who_took_the_name() {
        let id = |slot| ConnectionId::new(CoreId(0), slot, 0);
        let members = Members::default();
        members.lock().extend([
            (id(1), member("ann", false)),
            (id(2), member("ann", true)),
            (id(3), member("bob", false)),
        ]);
        let named = |name, is_users| {
            let mut found: Vec<_> = members.named(name, is_users).into_iter().map(|(id, _)| id.slot()).collect();
            found.sort_unstable();
            found
        };
        assert_eq!((named("ann", true), named("ann", false)), (vec![2], vec![1, 2]));
        assert_eq!((named("bob", false), named("bob", true)), (vec![3], vec![]));
    }

    // capability: 102
    #[test]
    fn the_servers_name_is_nobody_elses() {
        assert!(["System", "system", "SYSTEM", " System\u{a0}"].into_iter().all(is_system));
        assert!(!["Systems", "Sys tem", "", "Anonymous"].into_iter().any(is_system));
    }
}
