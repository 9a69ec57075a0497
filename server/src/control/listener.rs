//! The second listener: HTTP/1.1 within bounds, so that nobody who is slow or silent keeps others out.

use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::places::{Place, Places};
use crate::metrics::Counter;

/// From the accept, or the request before, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may leave what it was sent without an acknowledgement or room for it (`TCP_USER_TIMEOUT` in
/// `tcp(7)`), in milliseconds.
const UNREAD_TIMEOUT_MS: u32 = 10_000;

/// Bytes of a request's head; a longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, router: Router, evicted: Arc<Counter>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the server API can't be served"),
    };
    let places = Places::new(evicted);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (place, router) = (places.take().await, router.clone());
                tokio::spawn(async move {
                    let (mut evicted, mut served) = (pin!(place.evicted()), pin!(converse(stream, router, &place)));
                    poll_fn(|context| match evicted.as_mut().poll(context) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => served.as_mut().poll(context),
                    })
                    .await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the server API can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router, place: &Place) {
    let _ = stream.set_nodelay(true);
    let _ = set_tcp_user_timeout(&stream, UNREAD_TIMEOUT_MS);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let answer = service_fn(|request: Request<Incoming>| {
        place.works();
        let answer = service.call(request);
        async {
            let answer = answer.await;
            place.waits();
            answer
        }
    });
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection of the server API has ended");
    }
}
