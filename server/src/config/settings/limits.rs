//! Section `limits`: those of the engine, and those of the JSON protocol.

use crate::config::Config;
use crate::config::setting::Reload::{Live, Restart};
use crate::config::setting::{self, Section, place};

type Setting = setting::Setting<Config>;

/// Its settings.
pub(super) const SECTION: Section = Section {
    name: "limits",
    about: "What one connection, user or message may take.",
    settings: &[
        Setting::new(
            "limits.connections_per_core_max",
            Restart,
            place!(engine.connections_per_core_max),
            "Connections of one core; more are closed after the accept. Without it: what descriptors, the ring's table \
             and the memory budget allow. The log says at the start which of them binds, and what to raise; `crore \
             doctor --connections NUMBER` compares that with what there shall be.",
        )
        .example("100_000"),
        Setting::new(
            "limits.connections_per_user_max",
            Live,
            place!(limits.connections_per_user_max),
            "Open connections of one user, without those that the server has begun to close: \
             `limits.connections_per_ip_max` bounds them all. `limits.connections_per_user_excess` says what becomes of more.",
        ),
        Setting::new(
            "limits.connections_per_user_excess",
            Live,
            place!(limits.connections_per_user_excess),
            "What becomes of a user's connection too many: it is closed with 4029 (`refuse`), or the user's oldest one is \
             with 4030 (`replace`), so that with `connections_per_user_max = 1` each user has a single connection, the \
             last that was opened.",
        ),
        Setting::new(
            "limits.connections_per_ip_max",
            Restart,
            place!(limits.connections_per_ip_max),
            "Connections from one address, or from one /64 of IPv6, on all cores together; more are answered with 429. \
             Behind proxies only with `trusted_proxies`, or all clients of a proxy are one. Without it: as many as come.",
        )
        .example("100"),
        Setting::new(
            "limits.upgrades_per_second_max",
            Restart,
            place!(engine.upgrades_per_second_max),
            "Upgrades in a second, of which each core has an equal part; more are answered with 503 and a `Retry-After` \
             of 5 to 30 seconds. Without it: as many as come.",
        )
        .example("5000"),
        Setting::new(
            "limits.message_bytes_max",
            Restart,
            place!(engine.message_bytes_max),
            "Bytes of one message; a longer one closes its connection with 1009. What others would be sent of a message, \
             with `from`, `timestamp` and so on, is refused where it is longer (`message_too_long`).",
        ),
        Setting::new(
            "limits.fragments_max",
            Restart,
            place!(engine.fragments_max),
            "Frames that one message may be cut into; more close the connection with 1009.",
        ),
        Setting::new(
            "limits.json_depth_max",
            Live,
            place!(limits.json_depth_max),
            "Levels of nested objects and lists in a message; deeper ones are refused.",
        ),
        Setting::new(
            "limits.batch_messages_max",
            Live,
            place!(limits.batch_messages_max),
            "Messages of one batch ({\"type\":\"batch\",\"messages\":[…]}); one of more is refused as a whole.",
        ),
        Setting::new(
            "limits.inbound_overload",
            Live,
            place!(limits.inbound_overload),
            "What happens to the messages of a connection while one before them waits, for the key of a token, the \
             webhook's backend or a handler's, and as many wait behind it as the bounds that follow allow: nothing more is \
             read from it until half of them are done (`pause`), or more are dropped (`drop`).",
        ),
        Setting::new(
            "limits.inbound_queue_max",
            Live,
            place!(limits.inbound_queue_max),
            "Messages of one connection that wait for another one; more are not read, or dropped and answered with the \
             error `overloaded`, as `inbound_overload` says.",
        ),
        Setting::new(
            "limits.inbound_queue_bytes_max",
            Live,
            place!(limits.inbound_queue_bytes_max),
            "Bytes of these messages; the one that exceeds it is the last that is queued.",
        ),
        Setting::new(
            "limits.waiting_bytes_per_core_max",
            Live,
            place!(limits.waiting_bytes_per_core_max),
            "Bytes of all messages that wait on one core, those that wait for something and those behind them: until the \
             answer has come, though their connection may have gone. Never more than a quarter of the core's part of \
             `memory_budget`. The one that exceeds it is the last; others are answered with the error `busy` in place of \
             waiting for something, and with `overloaded` behind another one. From half of it on nothing more is read from \
             connections of which a message waits, where `inbound_overload` is `pause`.",
        ),
        Setting::new(
            "limits.head_bytes_max",
            Restart,
            place!(engine.head_bytes_max),
            "Bytes of the head of an HTTP request; a longer one is answered with 431.",
        ),
        Setting::new(
            "limits.outbox_bytes_max",
            Restart,
            place!(engine.outbox_bytes_max),
            "Bytes that wait for a slow reader before `slow_consumer` decides.",
        ),
        Setting::new(
            "limits.outbox_messages_max",
            Restart,
            place!(engine.outbox_messages_max),
            "Messages that wait for a slow reader before `slow_consumer` decides.",
        ),
        Setting::new(
            "limits.slow_consumer",
            Live,
            place!(engine.slow_consumer),
            "What happens when more is published than finds room, in channels whose rule does not say so (`slow_consumer` in \
             [[channels]]): the connection is closed with 1013, or a message is lost, the newest or the oldest, which \
             a message of type gap announces. Replies, what was missed (`recover`), and what is sent to a user or to \
             everyone are never lost: where they find no room, the connection is closed.",
        ),
        Setting::new(
            "limits.subscriptions_max",
            Restart,
            place!(engine.subscriptions_max),
            "Channels that one connection may be subscribed to; more are refused.",
        ),
        Setting::new(
            "limits.channel_bytes_max",
            Restart,
            place!(engine.topic_bytes_max),
            "Bytes of a channel's name; a longer one is refused.",
        ),
        Setting::new(
            "limits.handshake_timeout",
            Restart,
            place!(engine.handshake_timeout),
            "From the accept to the end of the request head; then the connection is cut.",
        ),
        Setting::new(
            "limits.ping_interval",
            Restart,
            place!(engine.ping_interval),
            "Between two pings. A connection from which nothing has come between two pings is cut.",
        ),
        Setting::new(
            "limits.close_timeout",
            Restart,
            place!(engine.close_timeout),
            "From a close frame to the end of the connection, if the client does not answer. Its user has left by then.",
        ),
    ],
};
