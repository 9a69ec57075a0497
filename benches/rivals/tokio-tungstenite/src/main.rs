//! tokio-tungstenite on a single-threaded tokio.

use std::io;

use futures_util::{SinkExt, StreamExt};
use rival_common::{Hub, MESSAGE_BYTES_MAX, Mode, Options, accept};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

type Socket = WebSocketStream<TcpStream>;

/// Read buffer of a connection. The library's 128 KiB is allocated for each and zeroed anew before every read.
const READ_BUFFER_BYTES: usize = 4096;

/// Messages drained from a connection's channel before they are flushed.
const BATCH_MESSAGES: usize = 256;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    let mut config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    if !options.defaults {
        config = config.read_buffer_size(READ_BUFFER_BYTES);
    }
    options.run_on_tokio(|listener, mode| serve(listener, mode, config))
}

async fn serve(listener: TcpListener, mode: Mode, config: WebSocketConfig) -> io::Result<()> {
    let hub = Hub::default();
    loop {
        let stream = accept(&listener).await;
        let hub = hub.clone();
        tokio::spawn(async move {
            let socket = accept_async_with_config(stream, Some(config)).await?;
            match mode {
                Mode::Echo => echo(socket).await,
                Mode::Broadcast => broadcast(socket, hub).await,
            }
        });
    }
}

async fn echo(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn broadcast(mut socket: Socket, hub: Hub<Message>) -> Result<(), Error> {
    let (member, mut receiver) = hub.join();
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = receiver.recv_many(&mut batch, BATCH_MESSAGES) => {
                for message in batch.drain(..) {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
            message = socket.next() => match message {
                Some(message) => {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        member.publish(&message);
                    }
                }
                None => return Ok(()),
            }
        }
    }
}
