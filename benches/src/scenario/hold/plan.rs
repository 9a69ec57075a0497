//! Who subscribes to what, who publishes, who asks, and the texts for it: the JSON protocol of `crore`, from the
//! client's side.

use std::borrow::Cow;

use serde::Deserialize;

/// What is done on the connections; each is known by its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) connections: u32,
    /// One in so many subscribes, the first among them.
    pub(super) subscribe_every: u32,
    pub(super) channels: u32,
    /// To each channel.
    pub(super) messages: u32,
    pub(super) requests: u32,
}

/// The one that publishes: it is not subscribed itself, where every second connection is or fewer are.
pub(super) const PUBLISHER: u32 = 1;

/// What a server of this protocol sends, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Incoming<'text> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'text, str>,
    pub(super) id: Option<u32>,
    #[serde(borrow)]
    pub(super) channel: Option<Cow<'text, str>>,
    #[serde(default)]
    pub(super) data: serde_json::Value,
}

impl Plan {
    /// Connections that subscribe.
    pub(super) fn subscribers(self) -> u32 {
        self.connections.div_ceil(self.subscribe_every)
    }

    /// The subscriber that has this slot.
    pub(super) fn subscriber(self, slot: u32) -> Option<u32> {
        slot.is_multiple_of(self.subscribe_every).then_some(slot / self.subscribe_every)
    }

    /// The slot that a subscriber has.
    pub(super) fn subscriber_slot(self, subscriber: u32) -> u32 {
        subscriber * self.subscribe_every
    }

    /// The channel of a subscriber.
    pub(super) fn channel(self, subscriber: u32) -> String {
        channel_name(subscriber % self.channels)
    }

    /// What subscribers should receive, all together.
    pub(super) fn deliveries(self) -> u64 {
        u64::from(self.subscribers()) * u64::from(self.messages)
    }

    /// The slot of a request, spread over all of them.
    pub(super) fn request_slot(self, request: u32) -> u32 {
        let slot = u64::from(request) * u64::from(self.connections) / u64::from(self.requests);
        u32::try_from(slot).unwrap_or(u32::MAX)
    }

    /// Which request a slot has, if any.
    pub(super) fn request(self, slot: u32) -> Option<u32> {
        let request = (u64::from(slot) * u64::from(self.requests)).div_ceil(u64::from(self.connections));
        let request = u32::try_from(request).ok()?;
        (request < self.requests && self.request_slot(request) == slot).then_some(request)
    }

    /// What a subscriber says.
    pub(super) fn subscribe(self, subscriber: u32) -> String {
        let (slot, channel) = (self.subscriber_slot(subscriber), self.channel(subscriber));
        format!(r#"{{"type":"subscribe","id":{slot},"channel":"{channel}"}}"#)
    }
}

/// The name of a channel.
fn channel_name(channel: u32) -> String {
    format!("hold-{channel}")
}

/// What the publisher says: message `number` to a channel.
pub(super) fn publish(channel: u32, number: u32) -> String {
    format!(r#"{{"type":"publish","id":{number},"channel":"{}","data":{number}}}"#, channel_name(channel))
}

/// What one who asks says.
pub(super) fn request(slot: u32) -> String {
    format!(r#"{{"type":"request","id":{slot},"method":"whoami"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { connections: 95, subscribe_every: 10, channels: 3, messages: 2, requests: 40 };

    #[test]
    fn every_tenth_subscribes_and_the_publisher_does_not() {
        assert_eq!((PLAN.subscribers(), PLAN.deliveries()), (10, 20));
        let slots: Vec<u32> = (0..95).filter(|slot| PLAN.subscriber(*slot).is_some()).collect();
        assert_eq!(slots, (0..10).map(|subscriber| PLAN.subscriber_slot(subscriber)).collect::<Vec<_>>());
        assert_eq!(PLAN.subscriber(PUBLISHER), None);
        assert_eq!((PLAN.channel(4), PLAN.channel(5)), ("hold-1".to_owned(), "hold-2".to_owned()));
    }

    #[test]
    fn requests_are_spread_and_known_by_their_slot() {
        for requests in [1, 40, 94, 95] {
            let plan = Plan { requests, ..PLAN };
            let slots: Vec<u32> = (0..95).filter(|slot| plan.request(*slot).is_some()).collect();
            assert_eq!(slots, (0..requests).map(|request| plan.request_slot(request)).collect::<Vec<_>>());
            assert!((0..requests).all(|request| plan.request(plan.request_slot(request)) == Some(request)));
        }
    }

    #[test]
    fn what_is_said_is_json() {
        for (text, kind) in [(PLAN.subscribe(4), "subscribe"), (publish(2, 1), "publish"), (request(7), "request")] {
            let incoming: Incoming<'_> = serde_json::from_str(&text).expect("JSON");
            assert_eq!(incoming.kind, kind);
        }
    }
}
