//! sockudo-ws on a single-threaded tokio, with its own publish/subscribe.

use std::io;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rival_common::{MESSAGE_BYTES_MAX, Mode, Options, accept};
use sockudo_ws::pubsub::PubSub;
use sockudo_ws::server::WebSocketServer;
use sockudo_ws::{Config, Http1, Message, Result, WebSocketStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;

type Socket = WebSocketStream<TcpStream>;

/// The topic of every client in broadcast mode.
const TOPIC: &str = "all";

/// Messages drained from a connection's channel before they are flushed.
const BATCH_MESSAGES: usize = 256;

fn main() -> io::Result<()> {
    // Its clock calibrates itself once, for up to 200 ms, at the first use.
    sockudo_ws::init_clock();
    Options::from_args().run_on_tokio(serve)
}

async fn serve(listener: TcpListener, mode: Mode) -> io::Result<()> {
    let server = WebSocketServer::<Http1>::new(Config::builder().max_payload_length(MESSAGE_BYTES_MAX).build());
    let pubsub = Arc::new(PubSub::new());
    loop {
        let stream = accept(&listener).await;
        let (server, pubsub) = (server.clone(), Arc::clone(&pubsub));
        tokio::spawn(async move {
            let (socket, _) = server.accept_raw(stream).await?;
            match mode {
                Mode::Echo => echo(socket).await,
                Mode::Broadcast => broadcast(socket, &pubsub).await,
            }
        });
    }
}

async fn echo(mut socket: Socket) -> Result<()> {
    while let Some(message) = socket.next().await {
        // Fed, not sent: the library flushes once the messages that it has read are used up.
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.feed(message).await?,
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    Ok(())
}

async fn broadcast(mut socket: Socket, pubsub: &PubSub) -> Result<()> {
    let (sender, mut receiver) = unbounded_channel();
    let member = pubsub.create_subscriber(sender);
    pubsub.subscribe(member, TOPIC);
    let mut batch = Vec::new();
    let result = loop {
        tokio::select! {
            biased;
            _ = receiver.recv_many(&mut batch, BATCH_MESSAGES) => {
                if let Err(error) = send_all(&mut socket, &mut batch).await {
                    break Err(error);
                }
            }
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    pubsub.publish(TOPIC, message);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => break Ok(()),
                Some(Err(error)) => break Err(error),
            }
        }
    };
    pubsub.remove_subscriber(member);
    result
}

async fn send_all(socket: &mut Socket, batch: &mut Vec<Message>) -> Result<()> {
    for message in batch.drain(..) {
        socket.feed(message).await?;
    }
    socket.flush().await
}
