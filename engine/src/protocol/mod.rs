//! The WebSocket protocol (RFC 6455) as a function of bytes: no socket, no clock, no unsafe code.
//!
//! Where a proxy forwards connections, each begins with its header: [`proxy::parse_proxy`]. Then, or else at once, a
//! connection starts with a request head: [`http::parse_request`] reads it,
//! [`handshake::validate`] says whether it is a proper upgrade, and [`handshake::append_accept`] or
//! [`handshake::append_refusal`] writes the answer. From then on every received buffer goes through
//! a [`Decoder`], which unmasks and validates whole frames where they lie and hands them out as
//! slices of that buffer. What is to be sent is written by [`frame`] and [`close`].
//!
//! Whoever calls does the reading and the writing; nothing here waits or sends.

#![forbid(unsafe_code)]

pub mod assembler;
pub mod close;
pub mod deflate;
pub mod error;
pub mod extensions;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod mask;
mod partial;
pub mod proxy;
#[cfg(test)]
mod random;
pub mod utf8;

pub use assembler::{Decoder, DecoderConfig, Event, Input, PartialPool};
pub use close::CloseFrame;
pub use error::ProtocolError;
pub use frame::{MessageKind, Opcode, Role};
pub use handshake::HandshakeError;
