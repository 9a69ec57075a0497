//! Crore's server: publish and subscribe in JSON over WebSocket, on the Crore engine.

#![forbid(unsafe_code)]

pub mod channel;
pub mod config;
pub mod wire;
