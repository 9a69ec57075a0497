//! What messages are made of.

use clap::ValueEnum;
use serde::Serialize;

/// The seed of all text: every run sends the same.
const SEED: u64 = 7692;

/// What follows the stamp of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    /// One letter, again and again
    #[default]
    Filler,
    /// Orders of a market as JSON: the same names, and values that differ
    Json,
}

const SYMBOLS: [&str; 8] = ["AAPL", "MSFT", "NVDA", "AMZN", "GOOG", "META", "TSLA", "ORCL"];
const NAMES: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

impl Payload {
    /// So many bytes of it, of ASCII. JSON is cut where the bytes end.
    pub(crate) fn bytes(self, count: usize) -> Vec<u8> {
        if self == Self::Filler {
            return vec![b'x'; count];
        }
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut text = String::from("{\"type\":\"message\",\"channel\":\"orders\",\"data\":[");
        while text.len() < count {
            let (symbol, name) = (random.usize(..SYMBOLS.len()), random.usize(..NAMES.len()));
            text += &format!(
                "{{\"id\":\"{:016x}\",\"symbol\":\"{}\",\"side\":\"{}\",\"price\":{}.{:02},\"volume\":{},\
                 \"user\":\"{}{}\",\"timestamp\":{}}},",
                random.u64(..),
                SYMBOLS[symbol],
                if random.bool() { "buy" } else { "sell" },
                random.u32(10..900),
                random.u32(..100),
                random.u32(1..5000),
                NAMES[name],
                random.u32(..1000),
                1_700_000_000_000 + random.u64(..100_000_000),
            );
        }
        text.truncate(count);
        text.into_bytes()
    }
}
