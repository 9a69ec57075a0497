//! The JSON protocol: one envelope in each direction.
//!
//! A client sends an object with `type` and, depending on it, `channel` (or `room`), `data`, `to`,
//! `method`, `echo`. An `id`, a number or a string, comes back in the reply as it was written. `data`
//! is any JSON value; it is checked and handed on as it is, never rebuilt. A message with half a surrogate pair in a text,
//! or with a number that no double can hold, is answered with `invalid_json`, wherever that stands in it (RFC 7493): many
//! who would be handed it could not read it.
//!
//! What others are sent of a message has its `data` and a little more, and is as long as `limits.message_bytes_max` at most,
//! which many clients take as the most that they receive: one that would be longer is answered with `message_too_long`.
//!
//! | a client sends | it receives | others receive |
//! |---|---|---|
//! | `subscribe`, `channel`, perhaps `token` | `subscribed`, `channel`, `data:{"subscribed":channel}` | |
//! | `unsubscribe`, `channel` | `unsubscribed`, `channel`, `data:{"unsubscribed":channel}` | |
//! | `message`, `channel`, `data` | with an `id`: `response`, `data:{"published":true}` | `message`, `channel`, `from`, `data`: all subscribers, the sender too if it is one |
//! | `publish`, `channel`, `data` | `response`, `data:{"published":true}` | the same, but not the sender |
//! | `join`, `channel` | `joined`, `channel`, `data:{"joined":channel}` | `join`, `channel`, `from` |
//! | `leave`, `channel` | `left`, `channel`, `data:{"left":channel}` | `leave`, `channel`, `from`; also when a member disconnects |
//! | `private`, `to`, `data` | `response`, `data:{"delivered":n}` | `private`, `from`, `data`: every connection of the user |
//! | `broadcast`, `data` | with an `id`: `response`, `data:{"broadcast":true}` | `broadcast`, `from`, `data`: every connection |
//! | `typing`, `channel`, `isTyping` | with an `id`: `response`, `data:{"typing":true}` or `false` | `typing`, `channel`, `from`, `isTyping`: the other subscribers, when it changes |
//! | `read`, `channel`, `ids` | with an `id`: `response`, `data:{"read":true}` | `read`, `channel`, `from`, `ids`: the other subscribers |
//! | `ping` | `pong` | |
//! | `connect` | `connected`, `data:{"connection_id":…,"user_id":…}` | |
//! | `auth`, `token` | `authenticated`, `user_id`, `expires_at` if the token has an end; `refresh` does the same | |
//! | `disconnect` | a close frame, 1000 | |
//! | `request`, `method` | `response`, `data` as the method has it | |
//! | `pong`, `response`, `error` | nothing | |
//! | `batch`, `messages` | what each of `messages`, in order, would receive alone | |
//! | `batch`, `enabled` | `response`, `data:{"batch":…}`: from now on batches, or none any more | |
//!
//! A client that reads more slowly than it is sent to may miss publications, where `slow_consumer` says so, in the rule of
//! a channel or in the section `limits`. In the place of those that were dropped it receives
//! `{"type":"gap","channel":…,"dropped":n}`, before whatever else is published to that channel. Replies and errors are
//! never dropped, nor is what was missed before (`recover`), or is sent to a user or to everyone: where they find no room,
//! the connection is closed with 1013. In a channel with `slow_consumer = "conflate"` a newer message replaces the one with the same key
//! that waits, in its place: messages of one key keep their order, those of several may not, and what is replaced is no
//! gap.
//!
//! `send_to_user` is another name of `private`. Every message of the server carries `timestamp`, in
//! milliseconds since the Unix epoch. `echo`, true or false, on `message`, `publish` or `broadcast`
//! says whether the sender receives its own message; a channel's option of that name outranks it.
//!
//! Where `auth.mode` is `required`, nothing but `auth` is done before `authenticated` has come, and other messages are
//! answered with the error `unauthenticated`. An authentication that fails is answered with an error (`no_token`,
//! `invalid_token`, `token_expired`, `auth_timeout`) and ends the connection with the close code 4001; so does the end
//! of a token, unless another one of the same user has come before. Of several the one that came last counts, for its end,
//! sooner or later, as for what it grants. Subscriptions that the one before allowed and it does not end at once, whoever
//! asked for them: the client receives `{"type":"unsubscribed","channel":…,"code":"forbidden","error":"Forbidden"}`, or
//! the error `forbidden` for one that was about to begin.
//!
//! The rules of channels (`[[channels]]`) say who may subscribe, publish, see presence and see history; whoever may not is
//! answered with the error `forbidden`. Where a rule takes a token for the channel, for whatever may be done there, `subscribe`
//! or `join` brings it in `token`; to subscribe again without one gives up none. One that is not good for this channel and this user is answered with `invalid_token`, one that has ended with
//! `token_expired`; the connection stays open, and a subscription that there is goes on to its own end. The reply has
//! `expires_at` if the token has an end. `auth.subscription_notice` before it the client receives
//! `{"type":"expiring","channel":…,"expires_at":…}`, once, and may subscribe again with a token that is good for longer; if
//! it has not, it receives `{"type":"unsubscribed","channel":…,"code":"token_expired","error":"Token expired"}` at the end,
//! and no more messages of the channel. Who may be there without a token stays, and may not do any more what took one.
//! `info` of the token goes with `join` to the others, as `data`.
//!
//! A channel with a history (`history` in its rule) has one order for all: each of its messages carries its `offset`,
//! counted from 1, and the `epoch` of that count, and the replies to `subscribe`, `join`, `publish` and `message` have both in
//! their `data`. With `recover` a client says in `subscribe` or `join` what it has seen last, `{"offset":…,"epoch":…}`, or
//! from which `timestamp` on it wants to hear, `{"since":…}`: what it has missed comes right behind the reply, and everything
//! else behind that. `recovered` in the reply says whether that is all; if not, a
//! `{"type":"gap","channel":…,"next":offset}` comes first, with the offset of the next message: where it is not kept any more,
//! and where it is more than half of what may wait for a connection (`limits.outbox_bytes_max`,
//! `limits.outbox_messages_max`), of which the last messages come, one at least. What a slow consumer has
//! missed since comes when it unsubscribes, and subscribes anew with `recover`: who is subscribed has missed nothing, and is
//! handed nothing. Only whom a backend has subscribed may still ask, once, for what was before that.
//! `{"type":"history","channel":…}` reads what is kept, with `recover` and `limit` as bounds: `data` of the reply is
//! `{"messages":[…],"complete":…,"offset":…,"epoch":…}`. It has the last messages; with `before`, an offset of that `epoch`, the
//! last of those before it. So where an answer is not complete, or a `gap` has come, its first message, or `next`, leads to
//! what is missing: as `before` of the next question, with the same `recover`, until an answer is complete or empty.
//!
//! Whatever has an `offset` comes behind all messages of the channel with a lower one, acknowledgements, too: a client
//! may keep the highest that it has seen. Answers that may be long (to `subscribe` and `join` with `recover`, to `history`
//! and `presence`) are made one at a time, in the order of the messages that have asked for them: the next when the client
//! has read most of the one before it. So a client that reads may ask for all its channels at once, and none of them costs
//! it the connection. Who may not ask any more when it is its turn is answered with `forbidden`.
//! `limits.subscriptions_max` and 64 more messages may wait in this way; more are answered with `busy`, and so is one whose
//! channel's home has not answered within 10 seconds.
//!
//! `typing` and `read` are for whoever is subscribed to the channel and may publish there; they are kept nowhere. A client
//! says `typing` again for as long as it types: if it has not for `typing.timeout`, or has left the channel, or is gone, the
//! others receive `"isTyping":false` from the server. `typing.start` and `typing.stop` are short for `typing`. That a user
//! types in a channel is told once in `typing.interval_min`, whatever it sends. `ids` are 1 to 100 numbers or strings that
//! name messages among the clients; the server hands them on as they are.
//!
//! In a channel with a presence (`presence` in its rule) it is known who subscribes. A client may say something of itself in
//! `subscribe` or `join`, as `metadata`, any JSON value; to subscribe or join again with another one replaces it, and what the
//! token says (`auth.metadata_claim`, or `info` of one for the channel) outranks it, unless it is longer than
//! `presence.metadata_bytes_max`. What a token has said is shown as long as it counts: until another one takes its place,
//! or one for the channel ends. A client whose `metadata` was outranked says it again then. Whoever may see it asks who is
//! there:
//! `{"type":"presence","channel":…,"limit":…,"after":…}`; `data` of the reply has `users`, at most `limit` (100, or up to
//! 1000) in the order of their names, each with its `connections` (`id`, `connected_at`, `server`, `metadata`), then
//! `user_count`, `connection_count`, and `next` if there are more, which is the `after` of the next request. A `limit` of 0
//! asks for the counts alone. With `presence = "events"` subscribers are told who has come and gone, at most once in
//! `presence.event_interval`: `{"type":"presence","channel":…,"data":{"joined":[{"user":…,"metadata":…}],"left":[{"user":…}],
//! "joined_count":…,"left_count":…,"user_count":…}}`. A user comes with the first of its connections and goes with the
//! last; the lists have `presence.event_users_max` of them, the counts have all. Who is back before it was told has not
//! gone. Those events are not part of a channel's history.
//!
//! A batch holds 1 to `limits.batch_messages_max` messages, and no other batch; one that does not is refused as a whole.
//! What comes behind a `disconnect` in it is not done. It has no answer of its own: give `id`s to its messages.
//!
//! A client that has sent `{"type":"batch","enabled":true}` is itself sent batches: `{"type":"batch","messages":[…]}`, with 2 to
//! `outbound_batch.messages_max` messages in the order in which they would have come alone, at most
//! `outbound_batch.delay` after the first of them. Everything may be in them, replies and errors, too. A message that has
//! found no other comes as it is; so does one of more than 16 KiB, a `gap`, and what was published to a channel with a
//! `slow_consumer` of its own while the client reads too slowly. A batch has no `timestamp`: its messages have theirs.
//!
//! Some messages have to wait before they are answered: a token whose key is being fetched, or what a backend is asked
//! about, by the webhook or a handler of your own. What comes behind such a message waits, so that a connection's
//! messages are handled in their order; a `ping` is answered at once, and a close is seen. Up to
//! `limits.inbound_queue_max` messages wait. With `limits.inbound_overload = "pause"`, the default, nothing more is
//! read from the connection then, until half of them are done; with `"drop"` more are dropped and answered with the
//! error `overloaded`. In either case a message is dropped so where as much waits on its core as may
//! (`limits.waiting_bytes_per_core_max`); at half of that reading stops, where it may. From a client that has still to
//! show a token nothing is read meanwhile. What waits is counted against the rate limit when it comes. What waits when
//! the connection ends is not done.
//!
//! Where a backend decides ([`webhook`](crate::webhook)), a connection is welcomed when the backend has agreed, and what
//! it sends before waits. So it is with one that shows its first token later, in a message: it is told `authenticated`
//! when the backend has agreed. What the backend subscribes it to is announced by `subscribed` without an `id`, and a `request`
//! may have methods of the backend's.
//!
//! What can't be done is answered by `{"type":"error","id":…,"code":…,"error":…}`, with `detail` where
//! there is more to say; the connection stays open. The codes are those of [`Refusal`].
//! With `rate_limit.on_exceed = "close"` an error with the code `rate_limited` is the last message before a close frame
//! with `rate_limit.close_code` (4008 by default) and the reason "Rate limit exceeded". A `ping` is never limited.
//!
//! Where `limits.connections_per_user_excess` is `replace`, a user's oldest connection is closed with 4030, "Replaced by
//! another connection", when another one is opened than there may be. Its client does not come back by itself: it would
//! only close the other one.
//!
//! A server that stops closes with 1001; of those who are closed all at once nobody is told that another one has left, or
//! types no more. One that spreads its closes (`shutdown_spread`), because it comes back,
//! closes with 1012 and the reason `restart; reconnect in 1-30 s`: a client waits a time of its own choice between the
//! two numbers of seconds, at random, and then reconnects. `restart` may be followed by other words some day; the form
//! `reconnect in A-B s` stays.

mod decode;
mod encode;
mod fields;
mod portable;
mod refusal;

pub(crate) use self::decode::is_deeper;
pub use self::decode::{Decoder, Incoming, Rejected};
pub(crate) use self::encode::PLACE_BYTES_MAX;
pub use self::encode::{Envelope, Sender};
pub(crate) use self::portable::check as check_portable;
pub use self::refusal::Refusal;

/// Bytes of an `id`, as JSON. It is echoed, so that it must not be a way to store things.
pub const ID_BYTES_MAX: usize = 128;

/// Messages that one read receipt is about.
pub const RECEIPT_IDS_MAX: usize = 100;

/// Bytes of a `type` or a `method`. Unknown ones are named in the error.
pub const NAME_BYTES_MAX: usize = 64;
