//! A client for tests that need a connection on a certain core.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tungstenite::{Message, WebSocket};

pub(crate) struct Client(WebSocket<TcpStream>);

impl Client {
    /// One on that core, that has been welcomed. It waits no longer than that for a message.
    pub(crate) fn on_core(address: SocketAddr, core: char, patience: Duration) -> Self {
        loop {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut client = Self(tungstenite::client(format!("ws://{address}/ws"), stream).unwrap().0);
            if client.next()["connection_id"].as_str().unwrap().starts_with(core) {
                return client;
            }
        }
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The reply to a message, which has an `id`; others before it are passed over.
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        loop {
            let reply = self.next();
            if reply["id"] == message["id"] {
                return reply;
            }
        }
    }
}
