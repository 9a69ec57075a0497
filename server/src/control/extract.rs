//! The parts of a request, with the API's own answer where one can't be read.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::api::ApiState;
use super::error::ApiError;
use crate::wire::{Refusal, check_portable, is_deeper};

/// A body of JSON: an object.
pub(super) struct Body<T>(pub(super) T);

/// The one name in the path, decoded.
pub(super) struct PathName(pub(super) String);

/// The query.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &ApiState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        // Before a body is read that is too long: axum would read as much as it may.
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > api.body_bytes_max) {
            return Err(ApiError::TooLarge(api.body_bytes_max));
        }
        let body = Bytes::from_request(request, api).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(api.body_bytes_max),
            _ => ApiError::Invalid("the body did not come as a whole".to_owned()),
        })?;
        parse(&body, api.shared()?.policy().decoder.json_depth_max).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

fn parse<T: DeserializeOwned>(body: &[u8], json_depth_max: usize) -> Result<T, ApiError> {
    let invalid = |detail: String| Err(ApiError::Invalid(detail));
    // Read as a list the fields would go by position.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    if is_deeper(body, json_depth_max) {
        return invalid("it is nested deeper than `limits.json_depth_max`".to_owned());
    }
    let Ok(text) = std::str::from_utf8(body) else { return Err(Refusal::InvalidJson.into()) };
    match serde_json::from_str(text) {
        Ok(parsed) if is_object => check_portable(text).map(|()| parsed).map_err(Into::into),
        Ok(_) => invalid("the body is an object".to_owned()),
        Err(error) if error.classify() == Category::Data => invalid(error.to_string()),
        Err(_) => Err(Refusal::InvalidJson.into()),
    }
}

impl FromRequestParts<ApiState> for PathName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, api).await;
        name.map(|Path(name)| Self(name)).map_err(|rejection| ApiError::Invalid(rejection.body_text()))
    }
}

impl<T: DeserializeOwned> FromRequestParts<ApiState> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, api).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| ApiError::Invalid(rejection.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        number: u8,
    }

    #[test]
    fn a_body_is_an_object_of_the_known_fields() {
        assert_eq!(parse::<Sample>(b" {\"number\":7}\n", 4).unwrap(), Sample { number: 7 });
        let refused = |body: &[u8]| parse::<Sample>(body, 4).unwrap_err();
        assert!(matches!(refused(b"[7]"), ApiError::Invalid(_)), "by position");
        assert!(matches!(refused(b"{\"number\":7,\"other\":1}"), ApiError::Invalid(_)));
        assert!(matches!(refused(b"{\"number\":300}"), ApiError::Invalid(_)));
        assert!(matches!(refused(b"[[[[[7]]]]]"), ApiError::Invalid(detail) if detail.contains("json_depth_max")));
        for broken in [&b""[..], b"{", b"{\"number\":7}}", b"\xff"] {
            assert!(matches!(refused(broken), ApiError::Refused(Refusal::InvalidJson)), "{broken:?}");
        }
    }

    // capability: 46
    #[test]
    fn what_clients_could_not_read_is_refused() {
        #[derive(Debug, Deserialize)]
        struct Data {
            data: Box<serde_json::value::RawValue>,
        }
        assert_eq!(parse::<Data>(br#"{"data":"\ud83d\ude00"}"#, 4).unwrap().data.get(), r#""\ud83d\ude00""#);
        for body in [r#"{"data":"\ud800"}"#, r#"{"data":[1e999]}"#] {
            let refused = parse::<Data>(body.as_bytes(), 4).unwrap_err();
            assert!(matches!(refused, ApiError::Refused(Refusal::Unportable(_))), "{body}");
        }
    }

    #[test]
    fn json_is_what_is_declared_as_such() {
        let declared = |value: &str| is_json(&HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]));
        assert!(declared("application/json") && declared("Application/JSON; charset=utf-8"));
        assert!(!declared("text/plain") && !declared("application/jsonp") && !is_json(&HeaderMap::new()));
    }
}
