//! Messages that tell what they are: which stream they belong to, their number in the run, and what the
//! application is to do with them. The rest is filled so that a byte out of its place is seen.

use std::sync::LazyLock;

use fastrand::Rng;

/// The longest message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 70_000;

/// Bytes before the filling.
pub(crate) const HEAD_BYTES: usize = 8;

/// The number that stands for a message without a payload, which has no place for one.
pub(crate) const EMPTY: u32 = u32::MAX;

/// The channels of a source; behind them come the topics.
pub(crate) const DIRECT: u8 = 0;
pub(crate) const BROADCAST: u8 = 1;
pub(crate) const TOPICS_FROM: u8 = 2;
pub(crate) const GAPS_FROM: u8 = 8;

/// What stands for the topic of messages that are missing by the connection's own policy.
pub(crate) const NO_TOPIC: u8 = 7;

/// Streams of one source.
const CHANNELS: u8 = 16;

/// Sources: the worker with its handles, and two more cores.
const SOURCES: u8 = 3;

/// All streams.
pub(crate) const STREAMS: usize = CHANNELS as usize * SOURCES as usize;

/// What has one order: what one source sends in one way. Only within a stream does a peer hear messages in
/// the order in which they were sent.
pub(crate) const fn stream(source: usize, channel: u8) -> u8 {
    source.to_le_bytes()[0] * CHANNELS + channel
}

/// The stream of what one source publishes to a topic.
pub(crate) const fn topic_stream(source: usize, topic: u8) -> u8 {
    stream(source, TOPICS_FROM + topic)
}

/// The topic of a stream of what is published.
pub(crate) const fn topic_of(stream: u8) -> Option<u8> {
    let channel = stream % CHANNELS;
    if channel >= TOPICS_FROM && channel < GAPS_FROM { Some(channel - TOPICS_FROM) } else { None }
}

/// The streams of messages that come from the same source.
pub(crate) fn streams_beside(stream: u8) -> impl Iterator<Item = u8> {
    let source = stream - stream % CHANNELS;
    (source..source + GAPS_FROM).filter(move |other| *other != stream)
}

/// The stream of what announces gaps in a topic. The numbers of its messages say how many are missing.
pub(crate) const fn gap_stream(topic: u8) -> u8 {
    stream(0, GAPS_FROM + topic)
}

/// The topic whose gaps a stream announces.
pub(crate) const fn gaps_of(stream: u8) -> Option<u8> {
    let channel = stream % CHANNELS;
    if channel >= GAPS_FROM { Some(channel - GAPS_FROM) } else { None }
}

/// The stream of an echo of nothing.
pub(crate) const fn empty_stream() -> u8 {
    stream(0, DIRECT)
}

/// Messages start at so many places of the filling.
const SHIFTS: usize = 509;

/// ASCII without a period.
static FILLING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Rng::with_seed(1);
    // In parts the same byte again and again, for those who compress.
    let mut run = 0;
    let next = |_| {
        if random.u8(..) < 30 || run == 0 {
            run = random.u8(1..128);
        }
        run
    };
    (0..SHIFTS + MESSAGE_BYTES_MAX).map(next).collect()
});

/// What a peer asks the application to do with its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wish {
    /// Send it back.
    Echo,
    /// Send it back twice: the second time it is not in place any more.
    EchoTwice,
    /// Publish it to the topic of its stream.
    Publish,
    /// The same, but not to its sender.
    PublishToOthers,
    /// Send it back, publish another message, send it back again.
    EchoAround,
    /// Subscribe to the topic in the argument, and say so.
    Subscribe,
    /// Unsubscribe from it, and say so.
    Unsubscribe,
    /// Send it to the peer in the argument.
    Forward,
    /// Send it to the peer in the argument by way of the engine's handle.
    ForwardByHandle,
    /// Send it to a connection of another core.
    ForwardToCore,
    /// Send it to everyone.
    Broadcast,
    /// Send it to everyone but its sender.
    BroadcastToOthers,
    /// Send as many messages as the argument says.
    Burst,
    /// Close the connection, and try to say more.
    Close,
    /// End the connection.
    Terminate,
    /// Spawn a future that sends it back by way of the handle.
    Spawn,
    /// Nothing.
    Ignore,
    /// Read no more for a while.
    Pause,
}

/// All wishes, by their numbers.
pub(crate) const WISHES: [Wish; 18] = [
    Wish::Echo,
    Wish::EchoTwice,
    Wish::Publish,
    Wish::PublishToOthers,
    Wish::EchoAround,
    Wish::Subscribe,
    Wish::Unsubscribe,
    Wish::Forward,
    Wish::ForwardByHandle,
    Wish::ForwardToCore,
    Wish::Broadcast,
    Wish::BroadcastToOthers,
    Wish::Burst,
    Wish::Close,
    Wish::Terminate,
    Wish::Spawn,
    Wish::Ignore,
    Wish::Pause,
];

/// What the first bytes of a message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) stream: u8,
    pub(crate) number: u32,
    pub(crate) wish: Wish,
    pub(crate) argument: u8,
}

impl Label {
    /// The message with this label, so many bytes long, but no shorter than the label. All of it is ASCII, so
    /// that it may be sent as text.
    pub(crate) fn message(&self, bytes: usize) -> Vec<u8> {
        let [a, b, c, d] = [0, 7, 14, 21].map(|shift| (self.number >> shift).to_le_bytes()[0] & 0x7f);
        let mut message = vec![self.stream, a, b, c, d, self.wish as u8, self.argument & 0x7f, 0];
        message.extend_from_slice(self.filling(bytes.max(HEAD_BYTES)));
        message
    }

    /// Reads a label, and all that follows it.
    ///
    /// # Panics
    /// If that is not the message that was written.
    pub(crate) fn read(message: &[u8]) -> Self {
        let [stream, a, b, c, d, wish, argument, 0, ..] = *message else {
            panic!("{} bytes that are no message: {:?}", message.len(), &message[..message.len().min(HEAD_BYTES)])
        };
        let number = [a, b, c, d].iter().rev().fold(0, |number, digit| number << 7 | u32::from(*digit));
        let wish = *WISHES.get(usize::from(wish)).expect("a wish");
        let label = Self { stream, number, wish, argument };
        assert!(
            message[HEAD_BYTES..] == *label.filling(message.len()),
            "the bytes of {label:?} are not what they were"
        );
        label
    }

    /// What follows the label in a message of so many bytes.
    fn filling(&self, bytes: usize) -> &'static [u8] {
        let start = self.number as usize % SHIFTS;
        &FILLING[start + HEAD_BYTES..start + bytes]
    }
}
