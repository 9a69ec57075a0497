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
    contexts: Contexts,
}

/// Both directions of permessage-deflate at a client's end.
pub struct Contexts {
    client_takeover: bool,
    server_takeover: bool,
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
        let contexts = Contexts::new(&answer);
        Self { client, answer, contexts }
    }

    /// Sends a message, compressed.
    ///
    /// # Panics
    /// If the server has gone.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        let compressed = self.contexts.compress(text.as_bytes());
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
        let message = if compressed { self.contexts.decompress(payload) } else { payload };
        (String::from_utf8(message).expect("text is UTF-8"), compressed)
    }
}

impl Contexts {
    /// Contexts as the server's answer wants them.
    #[must_use]
    pub fn new(answer: &str) -> Self {
        Self {
            client_takeover: !answer.contains("client_no_context_takeover"),
            server_takeover: !answer.contains("server_no_context_takeover"),
            deflate: Compress::new(Compression::new(6), false),
            inflate: Decompress::new(false),
        }
    }

    /// The payload that a message is sent as, with [`RSV1`].
    ///
    /// # Panics
    /// If the implementation of DEFLATE is broken.
    pub fn compress(&mut self, mut message: &[u8]) -> Vec<u8> {
        if !self.client_takeover {
            self.deflate.reset();
        }
        let mut compressed = Vec::with_capacity(message.len() + 100);
        loop {
            let before = self.deflate.total_in();
            compressed.reserve(4096);
            let flush = FlushCompress::Sync;
            self.deflate.compress_vec(message, &mut compressed, flush).expect("compressing does not fail");
            message = &message[usize::try_from(self.deflate.total_in() - before).expect("no more than there is")..];
            if message.is_empty() && compressed.len() < compressed.capacity() {
                break;
            }
        }
        assert!(compressed.ends_with(&TAIL));
        compressed.truncate(compressed.len() - TAIL.len());
        compressed
    }

    /// The message that was sent as this payload, with [`RSV1`].
    ///
    /// # Panics
    /// If it was not compressed, or with another context.
    pub fn decompress(&mut self, mut payload: Vec<u8>) -> Vec<u8> {
        if !self.server_takeover {
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
