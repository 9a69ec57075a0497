//! A client that compresses, with an implementation of DEFLATE that is not the engine's, and contexts that
//! live as long as the connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::{Client, Frame, frame};

/// The bit that says that a message is compressed (RFC 7692, section 6).
pub const RSV1: u8 = 0x40;

/// What every flush ends with, and no message carries (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A connection with permessage-deflate.
pub struct DeflateClient {
    /// The connection; what is said through it goes as it is.
    pub client: Client,
    /// What the server has agreed to.
    pub answer: String,
    deflate: Compress,
    inflate: Decompress,
}

impl DeflateClient {
    /// Upgrades a connection with an offer that the server must agree to.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn upgrade(client: Client, offer: &str) -> Self {
        let (client, answer) = client.upgraded_with(&format!("Sec-WebSocket-Extensions: {offer}\r\n"));
        let answer = answer.header("Sec-WebSocket-Extensions").expect("the server agrees to an extension").to_owned();
        assert!(answer.starts_with("permessage-deflate"), "{answer}");
        Self { client, answer, deflate: Compress::new(Compression::new(6), false), inflate: Decompress::new(false) }
    }

    /// Sends a message, compressed.
    ///
    /// # Panics
    /// If the server has gone.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        if self.answer.contains("client_no_context_takeover") {
            self.deflate.reset();
        }
        let mut compressed = Vec::with_capacity(text.len() + 100);
        let mut rest = text.as_bytes();
        loop {
            let before = self.deflate.total_in();
            compressed.reserve(4096);
            let flush = FlushCompress::Sync;
            self.deflate.compress_vec(rest, &mut compressed, flush).expect("compressing does not fail");
            rest = &rest[usize::try_from(self.deflate.total_in() - before).expect("no more than there is")..];
            if rest.is_empty() && compressed.len() < compressed.capacity() {
                break;
            }
        }
        assert!(compressed.ends_with(&TAIL));
        compressed.truncate(compressed.len() - TAIL.len());
        self.client.send(frame::masked(frame::TEXT | RSV1, &compressed));
    }

    /// The next message, which is text, and whether it came compressed.
    ///
    /// # Panics
    /// If something else comes, or it can't be decompressed.
    #[track_caller]
    pub fn hear(&mut self) -> (String, bool) {
        let Frame { first, payload } = self.client.frame();
        assert_eq!(first & !RSV1, frame::TEXT, "a text message was expected");
        let compressed = first & RSV1 != 0;
        let message = if compressed { self.decompress(payload) } else { payload };
        (String::from_utf8(message).expect("text is UTF-8"), compressed)
    }

    fn decompress(&mut self, mut payload: Vec<u8>) -> Vec<u8> {
        if self.answer.contains("server_no_context_takeover") {
            self.inflate.reset(false);
        }
        payload.extend_from_slice(&TAIL);
        let mut message = Vec::new();
        let mut rest = payload.as_slice();
        loop {
            let before = self.inflate.total_in();
            message.reserve(4096);
            let flush = FlushDecompress::Sync;
            let status = self.inflate.decompress_vec(rest, &mut message, flush).expect("it is DEFLATE data");
            assert_ne!(status, Status::StreamEnd, "a server that keeps its context has no last block");
            rest = &rest[usize::try_from(self.inflate.total_in() - before).expect("no more than there is")..];
            if rest.is_empty() && message.len() < message.capacity() {
                return message;
            }
        }
    }
}
