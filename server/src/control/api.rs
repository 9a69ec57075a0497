//! The routes of the second listener, and what stands before all of them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use crore_engine::EngineHandle;
use tokio::time::timeout;

use super::ask::ANSWER_TIMEOUT;
use super::error::ApiError;
use super::key::ApiKey;
use super::survey::Surveys;
use super::{admin, openapi, resource};
use crate::config::Config;
use crate::session::Shared;
use crate::wire::Refusal;

/// From the end of a request's head to its answer, the body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

const _: () = assert!(
    REQUEST_TIMEOUT.as_millis() > 4 * ANSWER_TIMEOUT.as_millis(),
    "what asks all cores twice may wait for another request that does: the core's delay is told, and not the client's"
);

/// What every request needs.
pub(super) struct Api {
    pub(super) engine: EngineHandle,
    /// Gone when the last core has ended.
    shared: Weak<Shared>,
    key: Option<ApiKey>,
    pub(super) body_bytes_max: usize,
    /// What waits for a connection before it is dealt with as a slow consumer.
    pub(super) outbox_bytes_max: usize,
    pub(super) surveys: Surveys,
}

pub(super) type ApiState = Arc<Api>;

impl Api {
    pub(super) fn new(engine: EngineHandle, shared: &Arc<Shared>, config: &Config) -> Self {
        Self {
            engine,
            shared: Arc::downgrade(shared),
            key: config.api.key.clone(),
            body_bytes_max: config.engine.message_bytes_max,
            outbox_bytes_max: config.engine.outbox_bytes_max,
            surveys: Surveys::default(),
        }
    }

    /// What all cores read.
    pub(super) fn shared(&self) -> Result<Arc<Shared>, ApiError> {
        self.shared.upgrade().ok_or(ApiError::Stopping)
    }

    /// Whether a request may go on. What the load balancer and the scraper read needs no key.
    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        if !request.uri().path().starts_with("/api") {
            return Ok(());
        }
        match &self.key {
            None => Err(Refusal::Forbidden(
                "set `api.key` in the configuration, or the variable CRORE_API_KEY, and send it with each request",
            )
            .into()),
            Some(key) if key.opens(request.headers()) => Ok(()),
            Some(_) => Err(ApiError::Unauthorized),
        }
    }
}

/// Everything that the second listener answers.
pub(super) fn router(api: Api) -> Router {
    let state = Arc::new(api);
    let (routes, document) = resource::routes().split_for_parts();
    let document = openapi::complete(document);
    let body_bytes_max = state.body_bytes_max;
    routes
        .route("/api/openapi.json", get(async move || openapi::response(&document)))
        .merge(admin::routes())
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn_with_state(Arc::clone(&state), guard))
        .with_state(state)
}

/// Who may ask, how long it may take, and what no answer should lack.
async fn guard(State(api): State<ApiState>, request: Request, next: Next) -> Response {
    let mut response = match api.admit(&request) {
        Ok(()) => {
            timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| ApiError::Timeout.into_response())
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
