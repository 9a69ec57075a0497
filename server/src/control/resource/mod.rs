//! What there is at the second listener: one file for each resource.

mod broadcast;
mod channels;
mod connections;
mod history;
mod inspection;
mod operations;
mod part;
mod presence;
mod publish;
mod stats;
mod users;

use utoipa::OpenApi as _;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::ApiState;
use super::openapi::Frame;

/// All routes, each with its part of the OpenAPI document.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(publish::publish))
        .routes(routes!(broadcast::broadcast))
        .routes(routes!(users::show))
        .routes(routes!(users::send))
        .routes(routes!(users::disconnect))
        .routes(routes!(users::terminate))
        .routes(routes!(users::reset_rate_limit))
        .routes(routes!(inspection::list))
        .routes(routes!(inspection::show))
        .routes(routes!(inspection::slow))
        .routes(routes!(connections::disconnect))
        .routes(routes!(connections::terminate))
        .routes(routes!(channels::list))
        .routes(routes!(channels::top))
        .routes(routes!(channels::show))
        .routes(routes!(history::show))
        .routes(routes!(presence::show))
        .routes(routes!(presence::of_user))
        .routes(routes!(stats::stats))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
}

/// `data` of a message: any JSON value.
fn any_value() -> Schema {
    let description = "Any JSON value; it is handed on as it is.";
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(description)).build().into()
}
