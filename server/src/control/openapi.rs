//! The OpenAPI document of the server API: what the routes say of themselves, and what holds for all of them.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::error::ErrorBody;

/// What the document says beside its paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Crore server API",
        description = "Publish, send and disconnect from a backend; look at users, connections and channels. \
            Health and metrics need no key.",
        license(name = "MIT OR Apache-2.0"),
    ),
    servers((url = "http://127.0.0.1:8081", description = "`api.listen`")),
    tags(
        (name = "messages", description = "To channels, users and everyone"),
        (name = "connections", description = "Who is there"),
        (name = "channels", description = "Who listens to what"),
        (name = "operations", description = "For load balancers, scrapers and people on duty"),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Key),
)]
pub(super) struct Frame;

/// How the key is sent.
struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let description = "`api.key`. `X-API-Key: KEY` is as good, where `Authorization` has another use.";
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document, with the errors that every operation has in common.
pub(super) fn complete(mut document: Document) -> String {
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/api/") {
            operations(item).for_each(add_errors);
        }
    }
    // A document without a value that JSON does not have.
    document.to_pretty_json().unwrap_or_default() + "\n"
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}

fn add_errors(operation: &mut Operation) {
    let always = [
        ("400", "The request does not have the form that is described here."),
        ("401", "The key is missing or another one."),
        ("403", "The server has no key: `api.key` is not set."),
        ("408", "The request did not come in time."),
        (
            "503",
            "A core has as many commands waiting as it may or does not answer, or the server is ending. Try again later.",
        ),
    ];
    let with_body = [
        ("413", "The body, or the message that it becomes, is longer than `limits.message_bytes_max`."),
        ("415", "The body is not declared as `application/json`."),
    ];
    let with_body = with_body.into_iter().filter(|_| operation.request_body.is_some());
    for (status, description) in always.into_iter().chain(with_body) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
    }
}

/// The document as an answer.
pub(super) fn response(document: &str) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::control::resource;

    #[test]
    fn the_file_is_the_document() {
        let (_, document) = resource::routes().split_for_parts();
        let document = complete(document);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        if std::env::var_os("CRORE_WRITE_OPENAPI").is_some() {
            fs::write(&path, &document).unwrap();
        }
        let hint = "server/openapi.json is out of date: CRORE_WRITE_OPENAPI=1 cargo test -p crore-server openapi";
        assert!(fs::read_to_string(path).unwrap_or_default() == document, "{hint}");
    }
}
