//! Crore's server: publish and subscribe in JSON over WebSocket, on the Crore engine.
//!
//! ```text
//! cli ─► config ─► app ─► engine ─► session (one per core) ─► inbound ─► wire, rate_limit, router ─► handlers ─► call
//!                  │                  ├─► http (page, health, metrics)           policy, users ◄──────┤
//!                  │                  └─► auth (origin, subprotocol, token) ◄─────────────────────────┘
//!                  └─► signals ─► reload ─► policy (another one for each session)
//!                  control (one thread: server API, health, metrics, webhook) ──────┘
//! ```
//!
//! The binary `crore` is [`cli::run`]. A program of your own starts from [`Server`], and adds its
//! message types with [`Server::on`]. The protocol is described in [`wire`].

#![forbid(unsafe_code)]

pub mod address;
pub mod app;
pub mod auth;
mod call;
pub mod channel;
mod chat;
pub mod cli;
pub mod config;
pub mod control;
mod doctor;
mod handlers;
mod health;
mod history;
mod home;
mod http;
mod inbound;
pub mod log;
mod metrics;
mod node;
mod policy;
mod presence;
#[cfg(test)]
mod random;
pub mod rate_limit;
mod reload;
mod router;
mod service;
mod session;
mod sharded;
mod signals;
#[cfg(test)]
mod test_support;
mod typing;
mod users;
pub mod webhook;
pub mod wire;

pub use app::Server;
pub use call::Call;
pub use router::{HandlerFn, Router};
