//! The client that fetches a key set over HTTP.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};

use super::keys::{KEYS_BYTES_MAX, KeyError, KeySet, Publicity};

/// From the look-up of the name to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers that lead to another address; they never lead from HTTPS to HTTP.
const REDIRECTS_MAX: u32 = 3;

const SETTING: &str = "auth.jwks_url";

/// A client for one URL.
#[derive(Debug)]
pub(crate) struct Fetcher {
    agent: Agent,
    url: String,
}

impl Fetcher {
    pub(crate) fn new(url: &str) -> Self {
        let is_secure = url.starts_with("https://");
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .https_only(is_secure)
            .max_redirects(if is_secure { REDIRECTS_MAX } else { 0 })
            .timeout_global(Some(FETCH_TIMEOUT))
            .max_idle_connections(0)
            .user_agent(concat!("crore/", env!("CARGO_PKG_VERSION")))
            .accept("application/jwk-set+json, application/json");
        Self { agent: config.build().new_agent(), url: url.to_owned() }
    }

    /// Fetches the set. This blocks, for [`FETCH_TIMEOUT`] at most.
    pub(crate) fn fetch(&self) -> Result<KeySet, KeyError> {
        // What the client says of an error can name the URL, whose query may be secret.
        let unusable = |problem: String| KeyError::Unusable { setting: SETTING, problem };
        let mut response = self.agent.get(&self.url).call().map_err(|error| unusable(reason(&error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(unusable(format!("the server has answered {status}")));
        }
        let text = response.body_mut().with_config().limit(KEYS_BYTES_MAX).read_to_string();
        KeySet::jwks(SETTING, &text.map_err(|error| unusable(reason(&error)))?, Publicity::Public)
    }
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(status) => format!("the server has answered {status}"),
        ureq::Error::Timeout(_) => format!("no answer within {FETCH_TIMEOUT:?}"),
        ureq::Error::HostNotFound => "its host has no address".to_owned(),
        ureq::Error::ConnectionFailed => "no connection to its host".to_owned(),
        ureq::Error::Io(error) => format!("no connection to its host: {error}"),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::BodyExceedsLimit(most) => format!("the answer has more than {most} bytes"),
        ureq::Error::TooManyRedirects => "it redirects too often".to_owned(),
        ureq::Error::RequireHttpsOnly(_) => "it redirects to plain HTTP".to_owned(),
        _ => "the answer can't be read".to_owned(),
    }
}

/// Whether keys may be fetched from a URL: over plain HTTP whoever is on the way could put in a key of its own.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| "expected a URL such as https://example.com/jwks.json".to_owned())?;
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
    if authority.contains('@') {
        return Err("no user and no password can stand in it".to_owned());
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" if !host.is_empty() => Ok(()),
        "http" if is_local => Ok(()),
        "http" => Err("keys that come over plain HTTP can be replaced on their way: use https://".to_owned()),
        _ => Err("expected a URL such as https://example.com/jwks.json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for url in ["https://id.example.com/keys?v=1", "http://127.0.0.1:81/k", "http://[::1]/k", "http://localhost/"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in
            ["http://id.example.com/keys", "http://127.0.0.1.example.com/", "ftp://a/b", "keys.json", "https://u:p@a/"]
        {
            assert!(check_url(url).is_err(), "{url}");
        }
        assert!(check_url("http://id.example.com/").unwrap_err().contains("https://"));
    }
}
