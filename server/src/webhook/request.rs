//! What the backend is sent: the body of a question, and the headers around it.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::rand;
use crore_engine::clock::unix_ms;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Forwarded;
use super::sign::Signer;
use crate::config::Secret;

/// The body of a question.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub(super) event: &'static str,
    pub(super) connection_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<IpAddr>,
    pub(super) timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    pub(super) kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a RawValue>,
}

impl Body<'_> {
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and JSON can be written as JSON")
    }
}

/// Gives a body its headers, the signature among them.
pub(super) struct Sealer {
    signer: Option<Signer>,
}

impl Sealer {
    pub(super) fn new(secret: Option<&Secret>) -> Self {
        let signer = |secret: &Secret| Signer::new(secret.expose()).expect("the configuration has been checked");
        Self { signer: secret.map(signer) }
    }

    pub(super) fn seal(&self, uri: &Uri, body: Vec<u8>, forwarded: Option<&Forwarded>) -> Request<Full<Bytes>> {
        let (id, timestamp_s) = (message_id(), unix_ms() / 1000);
        let mut request = Request::post(uri.clone());
        let headers = request.headers_mut().expect("a method and a URI that has been checked");
        for (name, value) in forwarded.into_iter().flat_map(|forwarded| forwarded.iter()) {
            headers.append(name, value.clone());
        }
        let text = |text: &str| HeaderValue::from_str(text).expect("digits, letters and Base64");
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // A client's own, where that is forwarded.
        let ours = HeaderValue::from_static(concat!("crore/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(ours);
        headers.insert("webhook-id", text(&id));
        headers.insert("webhook-timestamp", timestamp_s.into());
        if let Some(signer) = &self.signer {
            headers.insert("webhook-signature", text(&signer.sign(&id, timestamp_s, &body)));
        }
        request.body(Full::new(body.into())).expect("a method and a URI that has been checked")
    }
}

/// Tells a request from all others, those of other runs among them.
fn message_id() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the kernel has random bytes (getrandom(2))");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("signs", &self.signer.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_body_has_what_is_known_and_nothing_else() {
        let data: &RawValue = serde_json::from_str("[1, 2]").unwrap();
        let body = Body {
            event: "publish",
            connection_id: "0-1-2",
            user_id: None,
            address: Some(IpAddr::from([192, 0, 2, 7])),
            timestamp: 5,
            meta: None,
            kind: Some("message"),
            channel: Some("a\"b"),
            method: None,
            data: Some(data),
        };
        let text = r#"{"event":"publish","connection_id":"0-1-2","address":"192.0.2.7","timestamp":5,"type":"message","channel":"a\"b","data":[1, 2]}"#;
        assert_eq!(body.to_json(), text.as_bytes());
    }

    #[test]
    fn a_request_is_signed_as_it_is_sent() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let uri = Uri::from_static("http://127.0.0.1:1/a?b=c");
        let request = Sealer::new(Some(&secret)).seal(&uri, b"{}".to_vec(), None);
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        let (id, timestamp_s) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
        assert_eq!((id.len(), header("content-type")), (32, "application/json"));
        assert_ne!(id, message_id());
        let signer = Signer::new(secret.expose()).unwrap();
        assert_eq!(header("webhook-signature"), signer.sign(id, timestamp_s, b"{}"));
        let unsigned = Sealer::new(None).seal(&uri, Vec::new(), None);
        assert!(!unsigned.headers().contains_key("webhook-signature") && unsigned.uri() == &uri);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(request.into_body().collect()).unwrap().to_bytes(), "{}");
    }
}
