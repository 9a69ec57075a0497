//! What has come on the held connections, checked against the plan.

use std::collections::BTreeMap;

use super::plan::{Incoming, PUBLISHER, Plan};
use crate::client::{Actions, Load};
use crate::measure::latency::Latencies;

/// Close codes of a server that goes away, and of one that will be back (RFC 6455, section 7.4.1, and its registry).
const GOODBYES: [u16; 2] = [1001, 1012];

/// Nanoseconds in which pings are counted together, to see whether they are spread.
const SLICE_NS: u64 = 1_000_000_000;

/// What was done wrong with published messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Came again.
    pub(super) doubled: u64,
    /// Came after one that was published later.
    pub(super) reordered: u64,
    /// Came to someone who is not subscribed to their channel.
    pub(super) strayed: u64,
}

/// The state of all connections.
pub(super) struct Held {
    plan: Plan,
    /// Goes up with everything that was waited for.
    pub(super) progress: u64,
    /// A server that refuses something, or says what it should not: which connection, and what.
    pub(super) refused: Option<(u32, String)>,
    pub(super) opened: Latencies,
    pings: Pings,
    /// Subscribers whose subscription was confirmed.
    pub(super) subscribed: u32,
    confirmed: Vec<bool>,
    /// For each subscriber, a bit for each message.
    received: Vec<u64>,
    pub(super) delivered: u64,
    pub(super) faults: Faults,
    /// Publications that were confirmed.
    pub(super) published: u32,
    /// When each request left, and 0 once it is answered.
    asked_ns: Vec<u64>,
    pub(super) answers: Latencies,
    pub(super) answered: u32,
    draining: bool,
    /// Close codes of a drain.
    pub(super) goodbyes: BTreeMap<u16, u32>,
    pub(super) closed: u32,
}

/// Heartbeats, counted since [`Held::count_pings`].
#[derive(Default)]
struct Pings {
    since_ns: u64,
    rounds: u8,
    /// By slot, up to `rounds`.
    by_slot: Vec<u8>,
    /// Connections that have had `rounds` of them.
    complete: u32,
    all: u64,
    by_slice: Vec<u32>,
}

impl Held {
    pub(super) fn new(plan: Plan) -> Self {
        let subscribers = plan.subscribers() as usize;
        Self {
            plan,
            progress: 0,
            refused: None,
            opened: Latencies::default(),
            pings: Pings::default(),
            subscribed: 0,
            confirmed: vec![false; subscribers],
            received: vec![0; subscribers],
            delivered: 0,
            faults: Faults::default(),
            published: 0,
            asked_ns: vec![0; plan.requests as usize],
            answers: Latencies::default(),
            answered: 0,
            draining: false,
            goodbyes: BTreeMap::new(),
            closed: 0,
        }
    }

    /// Begins to count heartbeats, until every connection has had `rounds`.
    pub(super) fn count_pings(&mut self, rounds: u8, now_ns: u64) {
        let by_slot = vec![0; self.plan.connections as usize];
        self.pings = Pings { since_ns: now_ns, rounds, by_slot, ..Pings::default() };
    }

    /// Connections that have had all their heartbeats.
    pub(super) fn pinged_enough(&self) -> u32 {
        self.pings.complete
    }

    /// All pings since the count began, and how many more than on average came in the busiest whole second.
    pub(super) fn pings(&self) -> (u64, f64) {
        let slices = &self.pings.by_slice;
        let whole = &slices[..slices.len().saturating_sub(1)];
        let mean = whole.iter().map(|&count| f64::from(count)).sum::<f64>() / whole.len().max(1) as f64;
        let most = f64::from(whole.iter().copied().max().unwrap_or(0));
        (self.pings.all, if mean > 0.0 { most / mean } else { 1.0 })
    }

    /// A request leaves.
    pub(super) fn asks(&mut self, request: u32, now_ns: u64) {
        self.asked_ns[request as usize] = now_ns.max(1);
    }

    /// From now on the server may close connections.
    pub(super) fn expect_drain(&mut self) {
        self.draining = true;
    }

    /// A message that was published.
    fn delivered(&mut self, slot: u32, incoming: &Incoming<'_>) {
        let subscriber = self.plan.subscriber(slot);
        let subscriber =
            subscriber.filter(|&subscriber| incoming.channel.as_deref() == Some(&*self.plan.channel(subscriber)));
        let number = incoming.data.as_u64().filter(|&number| number < u64::from(self.plan.messages));
        let (Some(subscriber), Some(number)) = (subscriber, number) else {
            self.faults.strayed += 1;
            return;
        };
        let received = &mut self.received[subscriber as usize];
        if *received >> number & 1 == 1 {
            self.faults.doubled += 1;
            return;
        }
        self.faults.reordered += u64::from(*received >> number != 0);
        *received |= 1 << number;
        self.delivered += 1;
        self.progress += 1;
    }

    /// Whether a reply was waited for.
    fn replied(&mut self, slot: u32, incoming: &Incoming<'_>, now_ns: u64) -> bool {
        match (&*incoming.kind, incoming.id) {
            ("subscribed", Some(id)) if id == slot => {
                let Some(subscriber) = self.plan.subscriber(slot) else { return false };
                let first = !std::mem::replace(&mut self.confirmed[subscriber as usize], true);
                self.subscribed += u32::from(first);
                first
            }
            ("response", Some(_)) if slot == PUBLISHER && incoming.data["published"] == true => {
                self.published += 1;
                true
            }
            ("response", Some(id)) if id == slot => {
                let Some(request) = self.plan.request(slot) else { return false };
                let asked_ns = std::mem::take(&mut self.asked_ns[request as usize]);
                self.answered += u32::from(asked_ns != 0);
                self.answers.record(now_ns.saturating_sub(asked_ns));
                asked_ns != 0
            }
            _ => false,
        }
    }
}

impl Load for Held {
    fn opened(&mut self, _slot: u32, latency_ns: u64, _actions: &mut Actions) {
        self.opened.record(latency_ns);
    }

    fn unsolicited(&mut self, slot: u32, payload: &[u8], now_ns: u64) {
        match serde_json::from_slice::<Incoming<'_>>(payload) {
            Ok(incoming) if incoming.kind == "welcome" => {}
            Ok(incoming) if incoming.kind == "message" => self.delivered(slot, &incoming),
            Ok(incoming) if self.replied(slot, &incoming, now_ns) => self.progress += 1,
            _ => {
                self.refused.get_or_insert_with(|| (slot, String::from_utf8_lossy(payload).into_owned()));
            }
        }
    }

    fn pinged(&mut self, slot: u32, now_ns: u64) {
        let pings = &mut self.pings;
        let Some(count) = pings.by_slot.get_mut(slot as usize) else { return };
        self.progress += 1;
        pings.all += 1;
        let slice = usize::try_from(now_ns.saturating_sub(pings.since_ns) / SLICE_NS).unwrap_or(usize::MAX);
        if pings.by_slice.len() <= slice {
            pings.by_slice.resize(slice + 1, 0);
        }
        pings.by_slice[slice] += 1;
        if *count < pings.rounds {
            *count += 1;
            pings.complete += u32::from(*count == pings.rounds);
        }
    }

    fn closing(&mut self, _slot: u32, code: u16) -> bool {
        let expected = self.draining && GOODBYES.contains(&code);
        if expected {
            *self.goodbyes.entry(code).or_default() += 1;
        }
        expected
    }

    fn closed(&mut self, _slot: u32) {
        self.closed += 1;
        self.progress += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held::new(Plan { connections: 40, subscribe_every: 10, channels: 2, messages: 3, requests: 4 })
    }

    fn come(held: &mut Held, slot: u32, text: &str) {
        held.unsolicited(slot, text.as_bytes(), 7_000);
    }

    fn message(channel: u32, number: u32) -> String {
        format!(r#"{{"type":"message","channel":"hold-{channel}","from":"0-1-1","data":{number},"timestamp":1}}"#)
    }

    #[test]
    fn every_message_counts_once_and_for_its_subscribers_alone() {
        let mut held = held();
        for number in 0..3 {
            come(&mut held, 10, &message(1, number));
        }
        assert_eq!((held.delivered, held.faults), (3, Faults::default()));
        come(&mut held, 10, &message(1, 2));
        come(&mut held, 10, &message(0, 2));
        come(&mut held, 11, &message(1, 2));
        come(&mut held, 20, &message(0, 3));
        assert_eq!((held.delivered, held.faults), (3, Faults { doubled: 1, reordered: 0, strayed: 3 }));
        come(&mut held, 30, &message(1, 1));
        come(&mut held, 30, &message(1, 0));
        assert_eq!((held.delivered, held.faults.reordered, held.refused), (5, 1, None));
    }

    #[test]
    fn replies_count_once_and_others_are_refusals() {
        let mut held = held();
        come(&mut held, 3, r#"{"type":"welcome","message":"hello"}"#);
        come(&mut held, 20, r#"{"type":"subscribed","id":20,"channel":"hold-0","data":{"subscribed":"hold-0"}}"#);
        come(&mut held, 1, r#"{"type":"response","id":0,"data":{"published":true}}"#);
        held.asks(2, 5_000);
        come(&mut held, 20, r#"{"type":"response","id":20,"data":{"user_id":"x"}}"#);
        assert_eq!((held.subscribed, held.published, held.answered, held.progress), (1, 1, 1, 3));
        assert_eq!(held.refused, None);
        for (slot, text) in [
            (20, r#"{"type":"subscribed","id":20,"channel":"hold-0"}"#),
            (20, r#"{"type":"response","id":20,"data":{"user_id":"x"}}"#),
            (21, r#"{"type":"response","id":20,"data":{"user_id":"x"}}"#),
            (0, r#"{"type":"error","id":0,"code":"forbidden"}"#),
            (0, "hello"),
        ] {
            held.refused = None;
            come(&mut held, slot, text);
            assert_eq!(held.refused, Some((slot, text.to_owned())));
        }
    }

    #[test]
    fn heartbeats_are_complete_when_the_last_connection_has_its_last() {
        let mut held = held();
        held.pinged(0, 1);
        held.count_pings(2, 0);
        for round in 0..2 {
            for slot in 0..40 {
                assert_eq!(held.pinged_enough(), if round == 0 { 0 } else { slot });
                held.pinged(slot, u64::from(slot) * SLICE_NS / 10);
            }
        }
        held.pinged(0, 4 * SLICE_NS);
        assert_eq!((held.pinged_enough(), held.pings()), (40, (81, 1.0)));
    }

    #[test]
    fn a_close_is_good_in_a_drain_alone() {
        let mut held = held();
        assert!(!held.closing(0, 1001));
        held.expect_drain();
        assert!(held.closing(0, 1001) && held.closing(1, 1012) && !held.closing(2, 1011));
        assert_eq!(held.goodbyes, BTreeMap::from([(1001, 1), (1012, 1)]));
    }
}
