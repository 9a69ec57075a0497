//! permessage-deflate (RFC 7692) from the client's side: the offer, and messages compressed and decompressed.
//!
//! Decompressing all that a fan-out delivers would cost the client more than the server: it counts most
//! messages, and looks into those of a sample of its connections, into all of theirs.

use std::collections::HashMap;

use clap::ValueEnum;
use serde::Serialize;
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

use super::ProtocolError;
use super::frame::{STAMP_BYTES, Shape, Stamp};

/// Of so many connections one is looked into.
const SAMPLE: u32 = 64;

/// What every flush ends with and no message carries (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

const LEVEL: i32 = 6;
const WINDOW_BITS: u8 = 15;

/// Whether the messages of a connection may refer to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Takeover {
    /// Every message stands alone
    None,
    /// Both ends keep their context
    #[value(name = "takeover")]
    Both,
}

impl Takeover {
    /// What the request offers: the server has the choice, as with a browser.
    pub(crate) const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

    /// Whether an answer agrees to compression of this kind.
    pub(crate) fn is_agreed(self, extensions: &str) -> bool {
        let names = ["permessage-deflate", "server_no_context_takeover"];
        let [agreed, alone] = names.map(|name| extensions.split([';', ',']).any(|word| word.trim() == name));
        agreed && alone == (self == Self::None)
    }
}

/// The compressor of a client, and the decompressors of its sample.
pub(crate) struct Compressed {
    takeover: Takeover,
    deflate: Deflate,
    inflates: HashMap<u32, Inflate>,
    output: Vec<u8>,
    shape: Shape,
    body: Vec<u8>,
}

impl Compressed {
    pub(crate) fn new(takeover: Takeover, shape: Shape) -> Self {
        Self {
            takeover,
            deflate: Deflate::new(LEVEL, false, WINDOW_BITS),
            inflates: HashMap::new(),
            // A byte more than fits, so that a message that is too long is seen.
            output: vec![0; shape.payload_bytes + 1],
            shape,
            body: shape.body(),
        }
    }

    /// Whether the messages of connection `slot` are looked into.
    pub(crate) fn is_sampled(slot: u32) -> bool {
        slot.is_multiple_of(SAMPLE)
    }

    /// The payload of a message of the load.
    pub(crate) fn compress(&mut self, stamp: Stamp) -> Vec<u8> {
        let payload = [&stamp.encode()[..], &self.body].concat();
        let mut out = vec![0; payload.len() + 64];
        self.deflate.reset();
        self.deflate.compress(&payload, &mut out, DeflateFlush::SyncFlush).expect("there is room");
        let length = usize::try_from(self.deflate.total_out()).expect("it fits the buffer");
        out.truncate(length - TAIL.len());
        out
    }

    /// The stamp of the message that came compressed on connection `slot`, if the message is one of the load.
    ///
    /// # Errors
    /// It is not DEFLATE, or not what was sent.
    pub(crate) fn decompress(&mut self, slot: u32, payload: &[u8]) -> Result<Stamp, ProtocolError> {
        let inflate = self.inflates.entry(slot).or_insert_with(|| Inflate::new(false, WINDOW_BITS));
        if self.takeover == Takeover::None {
            inflate.reset(false);
        }
        let before = inflate.total_out();
        let mut length = 0;
        for bytes in [payload, &TAIL] {
            if length < self.output.len() {
                let output = &mut self.output[length..];
                inflate.decompress(bytes, output, InflateFlush::SyncFlush).map_err(|_| ProtocolError::Deflate)?;
                length = usize::try_from(inflate.total_out() - before).map_err(|_| ProtocolError::Deflate)?;
            }
        }
        if length != self.shape.payload_bytes || self.output[STAMP_BYTES..length] != self.body {
            return Err(ProtocolError::Changed);
        }
        Ok(Stamp::decode(&self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::frame::opcode;
    use crate::client::payload::Payload;

    #[test]
    fn messages_survive_and_changed_ones_are_found() {
        for takeover in [Takeover::None, Takeover::Both] {
            for payload_bytes in [12, 100, 4096, 100_000] {
                let shape = Shape { opcode: opcode::TEXT, payload_bytes, payload: Payload::Json, channels: None };
                let mut compressed = Compressed::new(takeover, shape);
                for sequence in 0..3 {
                    let stamp = Stamp { sequence, time_ns: 77 };
                    let payload = compressed.compress(stamp);
                    assert_eq!(compressed.decompress(64, &payload), Ok(stamp));
                }
                let other = Shape { payload_bytes: payload_bytes + 1, ..shape };
                let payload = Compressed::new(takeover, other).compress(Stamp { sequence: 3, time_ns: 77 });
                assert_eq!(compressed.decompress(64, &payload), Err(ProtocolError::Changed));
            }
        }
    }

    #[test]
    fn an_answer_has_to_be_of_the_kind_that_was_asked_for() {
        let alone = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert!(Takeover::None.is_agreed(alone) && !Takeover::Both.is_agreed(alone));
        assert!(Takeover::Both.is_agreed("permessage-deflate") && !Takeover::None.is_agreed("permessage-deflate"));
        assert!(!Takeover::Both.is_agreed("x-webkit-deflate-frame"));
    }
}
