//! The HTTP client of the webhook. It keeps its connections, and bounds what comes over them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::timeout;

use super::WebhookError;
use super::meter::Answer;
use super::request::Pieces;
use crate::config::WebhookConfig;

/// How long a connection waits for the next question. Shorter than backends wait, of which the hastiest close after two
/// seconds: a question must not be sent into a connection that is about to be closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A client for all URLs of the webhook.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Pieces>>,
    timeout: Duration,
    answer_bytes_max: usize,
}

/// Why there is no body. It says nothing of what was asked or answered, since logs say this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("no answer within `webhook.timeout`")]
    Timeout,
    #[error("no connection to it")]
    Unreachable,
    #[error("the connection to it has broken before there was an answer")]
    Broken,
    #[error("it has answered {0}")]
    Status(StatusCode),
    #[error("the body is longer than `webhook.answer_bytes_max`")]
    TooLong,
}

impl Fault {
    /// Whether the backend has failed, and is not just wrong. It may have failed at this question alone, unless that has
    /// not come to it ([`Self::Unreachable`]).
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable | Self::Broken => true,
            Self::Status(status) => status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            Self::TooLong => false,
        }
    }

    /// What is counted.
    pub(super) const fn answer(self) -> Answer {
        match self {
            Self::Timeout => Answer::Timeout,
            Self::Unreachable => Answer::Unreachable,
            Self::Broken => Answer::Broken,
            Self::Status(_) => Answer::ServerError,
            Self::TooLong => Answer::Unusable,
        }
    }
}

impl Client {
    pub(super) fn new(config: &WebhookConfig) -> Result<Self, WebhookError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config.speaks_tls())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(config.concurrency_max)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self { http, timeout: config.timeout, answer_bytes_max: config.answer_bytes_max })
    }

    /// Sends a request, and returns the body of an answer with the status 200.
    pub(super) async fn post(&self, mut request: Request<Full<Pieces>>) -> Result<Bytes, Fault> {
        let connection = capture_connection(&mut request);
        let lost = |error: legacy::Error| if error.is_connect() { Fault::Unreachable } else { Fault::Broken };
        let exchange = async {
            let response = self.http.request(request).await.map_err(lost)?;
            if response.status() != StatusCode::OK {
                return Err(Fault::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), self.answer_bytes_max).collect().await;
            match body {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => Err(Fault::TooLong),
                Err(_) => Err(Fault::Broken),
            }
        };
        match timeout(self.timeout, exchange).await {
            Ok(answered) => answered,
            Err(_) if connection.connection_metadata().is_none() => Err(Fault::Unreachable),
            Err(_) => Err(Fault::Timeout),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// TLS that trusts whom the host trusts; nobody, where it is not spoken.
fn tls(is_spoken: bool) -> Result<ClientConfig, WebhookError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| WebhookError(error.to_string()))?;
    let builder = if is_spoken {
        builder.with_platform_verifier().map_err(|error| WebhookError(error.to_string()))?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}
