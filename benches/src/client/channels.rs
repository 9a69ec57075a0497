//! Messages of a load in the JSON protocol of `crore`: from a client to a channel, and from it to its subscribers.

use super::frame::{STAMP_BYTES, Stamp};

/// Which channel a connection subscribes to and publishes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    /// One of its own: it alone gets its messages back.
    Own,
    /// One for all.
    Common,
}

/// What follows the data of a message.
const END: &str = "\"}";

/// How a message from the server begins.
const DELIVERY: &[u8] = br#"{"type":"message","#;

/// What stands before the stamp in a message from the server; channel and sender are ahead of it.
const DATA: &[u8] = br#","data":""#;

/// Where the stamp of a message begins at the latest.
const AHEAD_BYTES_MAX: usize = 512;

impl Channels {
    /// What a connection says to subscribe.
    pub(crate) fn subscribe(self, slot: u32) -> String {
        format!(r#"{{"type":"subscribe","channel":"{}"}}"#, self.name(slot))
    }

    /// The payload of a message with these data.
    pub(crate) fn message(self, slot: u32, data: &[u8]) -> Vec<u8> {
        let start = format!(r#"{{"type":"message","channel":"{}","data":""#, self.name(slot));
        [start.as_bytes(), data, END.as_bytes()].concat()
    }

    /// Bytes of such a payload before its data, and behind them.
    pub(crate) const fn around_bytes(self) -> (usize, usize) {
        let start = match self {
            Self::Own => r#"{"type":"message","channel":"bench-0000000000","data":""#,
            Self::Common => r#"{"type":"message","channel":"bench","data":""#,
        };
        (start.len(), END.len())
    }

    /// The name of a connection's channel, as long as any other's.
    fn name(self, slot: u32) -> String {
        match self {
            Self::Own => format!("bench-{slot:010}"),
            Self::Common => "bench".to_owned(),
        }
    }
}

/// The stamp of a message from a channel; `None` for all else that a server says.
pub(crate) fn stamp(payload: &[u8]) -> Option<Stamp> {
    let ahead = payload.strip_prefix(DELIVERY)?;
    let ahead = &ahead[..ahead.len().min(AHEAD_BYTES_MAX)];
    let start = ahead.windows(DATA.len()).position(|bytes| bytes == DATA)? + DELIVERY.len() + DATA.len();
    payload.get(start..start + STAMP_BYTES).map(Stamp::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_json_whose_stamp_is_found_again() {
        for (channels, slot) in [(Channels::Own, 7), (Channels::Own, u32::MAX), (Channels::Common, 3)] {
            let sent = Stamp { sequence: 9, time_ns: 1_234_567 };
            let payload = channels.message(slot, &[&sent.encode()[..], b"xyz"].concat());
            let (before, behind) = channels.around_bytes();
            assert_eq!(payload[before..payload.len() - behind], [&sent.encode()[..], b"xyz"].concat());
            let json: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
            let data = json["data"].as_str().expect("a text");
            assert_eq!((data.len(), json["type"].as_str()), (STAMP_BYTES + 3, Some("message")));
            let delivered = format!(
                r#"{{"type":"message","channel":{},"from":"0-1-1","data":"{data}","timestamp":1}}"#,
                json["channel"]
            );
            assert_eq!(stamp(delivered.as_bytes()), Some(sent));
            let subscribe: serde_json::Value = serde_json::from_str(&channels.subscribe(slot)).expect("JSON");
            assert_eq!(subscribe["channel"], json["channel"]);
        }
    }

    #[test]
    fn what_else_a_server_says_has_no_stamp() {
        for text in
            ["", "welcome", r#"{"type":"subscribed","data":"x"}"#, r#"{"type":"message","channel":"a","data":"x"}"#]
        {
            assert_eq!(stamp(text.as_bytes()), None, "{text}");
        }
    }
}
