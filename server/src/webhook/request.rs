//! What the backend is sent: the body of a question, and the headers around it.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::rand;
use bytes::buf::{Buf as _, Chain};
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

/// The body of a question, but for `data`.
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
}

impl Body<'_> {
    /// The whole body, with `data` if there is any, which is not copied: it may be a megabyte, and a thousand wait.
    pub(super) fn with_data(&self, data: Option<Bytes>) -> Question {
        let mut head = serde_json::to_vec(self).expect("texts, numbers and JSON can be written as JSON");
        if data.is_some() {
            head.truncate(head.len() - END.len());
            head.extend_from_slice(b",\"data\":");
        }
        let end = if data.is_some() { END } else { b"" };
        Question { head: head.into(), data: data.unwrap_or_default(), end }
    }
}

/// The end of an object.
const END: &[u8] = b"}";

/// A body in three pieces: what is known of the connection, `data` where it lies in the client's message, and the rest.
#[derive(Debug)]
pub(super) struct Question {
    head: Bytes,
    data: Bytes,
    end: &'static [u8],
}

/// The pieces one behind another.
pub(super) type Pieces = Chain<Chain<Bytes, Bytes>, &'static [u8]>;

impl Question {
    /// Bytes that it takes beside the client's message.
    pub(super) const fn own_bytes(&self) -> usize {
        self.head.len()
    }

    fn pieces(&self) -> [&[u8]; 3] {
        [&self.head, &self.data, self.end]
    }

    fn into_body(self) -> Full<Pieces> {
        Full::new(self.head.chain(self.data).chain(self.end))
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

    pub(super) fn seal(&self, uri: &Uri, question: Question, forwarded: Option<&Forwarded>) -> Request<Full<Pieces>> {
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
            headers.insert("webhook-signature", text(&signer.sign(&id, timestamp_s, &question.pieces())));
        }
        request.body(question.into_body()).expect("a method and a URI that has been checked")
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
        };
        let text = r#"{"event":"publish","connection_id":"0-1-2","address":"192.0.2.7","timestamp":5,"type":"message","channel":"a\"b","data":[1, 2]}"#;
        assert_eq!(body.with_data(Some(Bytes::from_static(b"[1, 2]"))).pieces().concat(), text.as_bytes());
        let text = text.replace(r#","data":[1, 2]"#, "");
        assert_eq!(body.with_data(None).pieces().concat(), text.as_bytes());
    }

    #[test]
    fn a_request_is_signed_as_it_is_sent() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let uri = Uri::from_static("http://127.0.0.1:1/a?b=c");
        let question = || Question { head: "{".into(), data: "\"data\":7".into(), end: END };
        let request = Sealer::new(Some(&secret)).seal(&uri, question(), None);
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        let (id, timestamp_s) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
        assert_eq!((id.len(), header("content-type")), (32, "application/json"));
        assert_ne!(id, message_id());
        let signer = Signer::new(secret.expose()).unwrap();
        assert_eq!(header("webhook-signature"), signer.sign(id, timestamp_s, &[b"{\"data\":7}"]));
        let unsigned = Sealer::new(None).seal(&uri, question(), None);
        assert!(!unsigned.headers().contains_key("webhook-signature") && unsigned.uri() == &uri);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(request.into_body().collect()).unwrap().to_bytes(), "{\"data\":7}");
    }
}
