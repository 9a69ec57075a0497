//! For tests of what several cores do: a client on a certain core, and a core that is kept.

use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::Server;

/// Keeps a core, which does nothing else meanwhile.
pub(crate) struct Stall {
    begun: Receiver<()>,
    end: Sender<()>,
    patience: Duration,
}

impl Stall {
    /// For a server of which one core at a time can be kept, each time no longer than that.
    pub(crate) fn on(server: Server, patience: Duration) -> (Server, Self) {
        let ((begins, begun), (end, ended)) = (channel(), channel());
        let (begins, ended) = (Mutex::new(begins), Mutex::new(ended));
        let server = server.on("stall", move |_| {
            begins.lock().unwrap().send(()).unwrap();
            let _ = ended.lock().unwrap().recv_timeout(patience);
            Ok(())
        });
        (server, Self { begun, end, patience })
    }

    /// Keeps the core of a client.
    pub(crate) fn begin(&self, client: &mut Client) {
        client.say(&json!({"type": "stall"}));
        self.begun.recv_timeout(self.patience).unwrap();
    }

    pub(crate) fn end(&self) {
        self.end.send(()).unwrap();
    }
}

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
