//! The plain chat: one room at a path of its own (`chat.path`), for clients that know neither channels nor identifiers.
//!
//! | a client sends | everyone in the room receives |
//! |---|---|
//! | `{"type":"join","username":…}` | `{"type":"message","username":"System","content":"… has joined the chat"}` |
//! | `{"type":"message","content":…}` | `{"type":"message","username":…,"content":…}`, the sender too |
//! | `{"type":"private","to":…,"content":…}` | only those with that name: `{"type":"private","username":…,"from":…,"to":…,"content":…}` |
//! | `{"type":"typing","isTyping":…}` | all but the sender: `{"type":"typing","username":…,"isTyping":…,"content":"is typing..."}` |
//! | it leaves | `{"type":"message","username":"System","content":"… has left the chat"}` |
//!
//! A newcomer is welcomed by the same kind of message, and what can't be done is answered by one of type `error`. With
//! tokens the name is the token's user, whatever `join` says. Every message has a `timestamp`: in milliseconds, or in
//! seconds for clients whose `User-Agent` names Python, which count so and can't show the other.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crore_engine::{ConnectionId, Context, Request};
use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::session::{Connection, House};
use crate::users::is_user_name;
use crate::wire::Refusal;

/// Who speaks for the server.
const SYSTEM: &str = "System";

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
}

/// Who has joined, on all cores: looked at when somebody joins, leaves or speaks to one of them.
#[derive(Debug, Default)]
pub(crate) struct Members(Mutex<HashMap<ConnectionId, (Box<str>, Clock)>>);

impl Members {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, (Box<str>, Clock)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, name: &str) -> Vec<(ConnectionId, Clock)> {
        let members = self.lock();
        members.iter().filter(|(_, (known, _))| **known == *name).map(|(id, (_, clock))| (*id, *clock)).collect()
    }
}

/// What a client says.
#[derive(Deserialize)]
struct Said {
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

/// Does what a client of the room asks for.
pub(crate) fn hear(
    context: &mut Context<'_>,
    connection: &mut Connection,
    House { shared, policy }: House<'_>,
    json: &str,
    now_ms: u64,
) -> Result<(), Refusal> {
    let said: Said = serde_json::from_str(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Refusal::InvalidMessage("it is no message of the chat"),
        _ => Refusal::InvalidJson,
    })?;
    let user = connection.name().map(Box::from);
    let Some(member) = connection.chat_mut() else { return Ok(()) };
    let name: Box<str> = member.name.clone().or_else(|| user.clone()).unwrap_or_else(|| ANONYMOUS.into());
    match said.kind.as_str() {
        "join" => {
            let name = user.unwrap_or_else(|| said.username.into_boxed_str());
            if !is_user_name(&name) {
                return Err(Refusal::InvalidMessage("`username` has 1 to 128 bytes of printable text"));
            }
            shared.chat.lock().insert(context.id(), (name.clone(), member.clock));
            tell(context, says(SYSTEM, &format!("{name} has joined the chat")), now_ms);
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
            let to = shared.chat.named(&said.to);
            if to.is_empty() {
                let nobody = format!("{} is not online", said.to);
                context.send(&Line { kind: "error", ..says(SYSTEM, &nobody) }.at(now_ms, member.clock));
            }
            let line = Line { kind: "private", from: Some(&name), to: Some(&said.to), ..says(&name, &said.content) };
            let lines = line.for_all(policy, now_ms)?;
            for (id, clock) in to {
                context.send_to(id, &lines[clock as usize]);
            }
        }
        _ => return Err(Refusal::UnknownType(said.kind)),
    }
    Ok(())
}

/// Says that somebody has gone, who had joined.
pub(crate) fn leave(context: &mut Context<'_>, members: &Members, now_ms: u64) {
    let left = members.lock().remove(&context.id());
    if let Some((name, _)) = left {
        tell(context, says(SYSTEM, &format!("{name} has left the chat")), now_ms);
    }
}

/// To everyone in the room.
fn tell(context: &mut Context<'_>, line: Line<'_>, now_ms: u64) {
    for clock in CLOCKS {
        context.publish(clock.topic(), &line.at(now_ms, clock));
    }
}
