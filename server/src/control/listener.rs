//! The second listener: HTTP/1.1 within bounds, so that nobody who is slow keeps others out for long.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Connections at one time; more wait in the kernel until one ends.
const CONNECTIONS_MAX: usize = 256;

/// From the accept, or the request before, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may leave what it was sent without an acknowledgement or room for it (`TCP_USER_TIMEOUT` in
/// `tcp(7)`), in milliseconds.
const UNREAD_TIMEOUT_MS: u32 = 10_000;

/// Bytes of a request's head; a longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the server API can't be served"),
    };
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the server API can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    let _ = set_tcp_user_timeout(&stream, UNREAD_TIMEOUT_MS);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let served = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the server API has ended");
    }
}
