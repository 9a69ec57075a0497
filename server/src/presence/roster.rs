//! Who is in a channel, as clients and backends read it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::table::{Changes, Entry, Part};

/// Who is in a channel: a part of its users, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Presence)]
pub(crate) struct Roster {
    /// A part of them, or none where `limit` is 0.
    users: Vec<Person>,
    /// How many users there are.
    user_count: usize,
    /// How many connections they have there.
    connection_count: usize,
    /// The `after` to go on with; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// A user in a channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PresentUser)]
pub(crate) struct Person {
    /// Its name; the identifier of a connection that has none.
    #[schema(value_type = String)]
    user: Arc<str>,
    /// Its connections that are subscribed to the channel, the one first that was so first.
    connections: Vec<Place>,
}

/// A connection in a channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PresentConnection)]
pub(crate) struct Place {
    /// Its identifier.
    id: String,
    /// When it opened, in milliseconds since the Unix epoch.
    connected_at: u64,
    /// The name of the server that it is on.
    #[schema(value_type = String)]
    server: Arc<str>,
    /// What its token says of it, or what it says of itself; absent if that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, nullable = false)]
    metadata: Option<Box<RawValue>>,
}

impl Roster {
    pub(super) fn new(part: &Part<'_>, server: &Arc<str>) -> Self {
        let place = |entry: &&Entry| Place {
            id: entry.connection.to_string(),
            connected_at: entry.connected_ms,
            server: Arc::clone(server),
            metadata: entry.metadata.as_deref().map(raw),
        };
        let users: Vec<_> = part
            .users
            .iter()
            .map(|(user, entries)| Person { user: Arc::clone(user), connections: entries.iter().map(place).collect() })
            .collect();
        let next = users.last().filter(|_| part.more).map(|person| person.user.to_string());
        Self { users, user_count: part.user_count, connection_count: part.connection_count, next }
    }
}

/// An answer as `data`.
pub(super) fn json(roster: &Roster) -> String {
    serde_json::to_string(roster).expect("texts and numbers can be written as JSON")
}

/// A user in an event.
#[derive(Serialize)]
struct Who<'c> {
    user: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Event<'c> {
    joined: Vec<Who<'c>>,
    left: Vec<Who<'c>>,
    joined_count: usize,
    left_count: usize,
    user_count: usize,
}

/// What has changed, as `data` of an event.
pub(super) fn event(changes: &Changes) -> String {
    let event = Event {
        joined: changes
            .joined
            .iter()
            .map(|(user, metadata)| Who { user, metadata: metadata.as_deref().map(raw) })
            .collect(),
        left: changes.left.iter().map(|user| Who { user, metadata: None }).collect(),
        joined_count: changes.joined_count,
        left_count: changes.left_count,
        user_count: changes.user_count,
    };
    serde_json::to_string(&event).expect("texts and numbers can be written as JSON")
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("it was read as JSON")
}
