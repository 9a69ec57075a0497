//! For load balancers and scrapers. No key is needed.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use crate::control::api::ApiState;
use crate::control::error::ApiError;
use crate::health::Turns;
use crate::metrics;

/// How long a core may take for its next turn and count as alive.
const TURN_PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at the cores.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The state of health.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, `draining` (a core that has nothing left to drain has ended, and is not asked), or `stuck`.
    status: &'static str,
    /// Cores that have not taken a turn within two seconds: a handler keeps them, or they have ended.
    stuck_cores: Vec<usize>,
}

/// Whether the server takes connections.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready`, or `draining`.
    status: &'static str,
}

/// Is the server alive?
///
/// Each core is asked to take a turn.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses(
        (status = 200, description = "Every core works, or the server is ending.", body = Health),
        (status = 503, description = "A core does not.", body = Health),
    ),
    security(()),
)]
pub(super) async fn healthz(State(api): State<ApiState>) -> (StatusCode, Json<Health>) {
    let answer = |status, health, stuck_cores| (status, Json(Health { status: health, stuck_cores }));
    let (deadline, turns) = (Instant::now() + TURN_PATIENCE, Turns::taken(&api.engine));
    loop {
        let awaited = turns.awaited(&api.engine);
        if api.engine.is_draining() {
            return answer(StatusCode::OK, "draining", Vec::new());
        }
        if awaited.is_empty() {
            return answer(StatusCode::OK, "ok", awaited);
        }
        if Instant::now() >= deadline {
            return answer(StatusCode::SERVICE_UNAVAILABLE, "stuck", awaited);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Does the server take connections?
///
/// No longer as soon as it has begun to stop.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "It does.", body = Readiness),
        (status = 503, description = "It is draining.", body = Readiness),
    ),
    security(()),
)]
pub(super) async fn readyz(State(api): State<ApiState>) -> (StatusCode, Json<Readiness>) {
    if api.engine.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Readiness { status: "draining" }))
    } else {
        (StatusCode::OK, Json(Readiness { status: "ready" }))
    }
}

/// All metrics, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "The text format, version 0.0.4.", body = String, content_type = "text/plain")),
    security(()),
)]
pub(super) async fn metrics(State(api): State<ApiState>) -> Result<Response, ApiError> {
    let shared = api.shared()?;
    let text = shared.scrape(&api.engine).render();
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
