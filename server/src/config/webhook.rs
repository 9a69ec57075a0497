//! Section `webhook`: the backend that decides, and how long it is waited for.

use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;

use super::Secret;
use crate::channel::ChannelRule;
use crate::control::QUESTIONS_MAX;
use crate::inbound::WAIT_MAX;
use crate::webhook::{Event, check_secret};

/// Headers that belong to a request itself (RFC 9110, sections 7.6.1, 7.2 and 8), and to those of ours.
const OWN_HEADERS: [&str; 16] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// A backend that decides who connects, subscribes and publishes, and answers requests ([`webhook`](crate::webhook)).
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Who may connect, and as whom.
    pub connect_url: Option<String>,
    /// Who may subscribe, where the channel's rule asks.
    pub subscribe_url: Option<String>,
    /// Who may publish, and what, where the channel's rule asks.
    pub publish_url: Option<String>,
    /// Answers requests by method.
    pub rpc_url: Option<String>,
    /// How long an answer may take, and before that the turn of a question.
    pub timeout: Duration,
    /// Questions about one event that are out at one time.
    pub concurrency_max: usize,
    /// Bytes of an answer's body.
    pub answer_bytes_max: usize,
    /// What the questions are signed with: `whsec_` and 24 to 64 bytes in Base64.
    pub secret: Option<Secret>,
    /// Headers of the client's upgrade that the backend sees.
    pub forward_headers: Vec<String>,
    /// What a connection is to be while the backend can't be asked.
    pub connect_when_down: WhenDown,
    /// The same for a subscription.
    pub subscribe_when_down: WhenDown,
    /// The same for what is published.
    pub publish_when_down: WhenDown,
    /// So many failures, of different users or addresses, open the circuit breaker of an event.
    pub breaker_failures: usize,
    /// If they come within this.
    pub breaker_window: Duration,
    /// How long the backend is left alone then.
    pub breaker_pause: Duration,
}

/// What becomes of what a backend would have to decide that can't be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDown {
    /// It is not done, and the client is told `unavailable`.
    Refuse,
    /// It is done.
    Allow,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            connect_url: None,
            subscribe_url: None,
            publish_url: None,
            rpc_url: None,
            timeout: Duration::from_secs(3),
            concurrency_max: 64,
            answer_bytes_max: 64 * 1024,
            secret: None,
            forward_headers: Vec::new(),
            connect_when_down: WhenDown::Refuse,
            subscribe_when_down: WhenDown::Refuse,
            publish_when_down: WhenDown::Refuse,
            breaker_failures: 10,
            breaker_window: Duration::from_secs(10),
            breaker_pause: Duration::from_secs(5),
        }
    }
}

impl WebhookConfig {
    /// The setting of an event's URL, and what it is set to.
    fn urls(&self) -> [(&'static str, Option<&str>); Event::ALL.len()] {
        [
            ("webhook.connect_url", self.connect_url.as_deref()),
            ("webhook.subscribe_url", self.subscribe_url.as_deref()),
            ("webhook.publish_url", self.publish_url.as_deref()),
            ("webhook.rpc_url", self.rpc_url.as_deref()),
        ]
    }

    /// Whether a backend decides about anything.
    pub(crate) fn is_on(&self) -> bool {
        self.urls().iter().any(|(_, url)| url.is_some())
    }

    /// Whether any of its URLs is one of HTTPS.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.urls().iter().filter_map(|(_, url)| *url).any(|url| !is_plain(url))
    }

    /// Where an event is decided, and what holds while that is down. A request can't be answered then.
    pub(crate) fn endpoint(&self, event: Event) -> (Option<&str>, WhenDown) {
        match event {
            Event::Connect => (self.connect_url.as_deref(), self.connect_when_down),
            Event::Subscribe => (self.subscribe_url.as_deref(), self.subscribe_when_down),
            Event::Publish => (self.publish_url.as_deref(), self.publish_when_down),
            Event::Rpc => (self.rpc_url.as_deref(), WhenDown::Refuse),
        }
    }

    /// Whether the settings go together, among themselves and with the rules of the channels.
    ///
    /// # Errors
    /// The setting that is wrong and what to do about it.
    pub(crate) fn check(&self, channels: &[ChannelRule]) -> Result<(), (&'static str, String)> {
        for (setting, url) in self.urls() {
            url.map_or(Ok(()), check_url).map_err(|problem| (setting, problem))?;
        }
        if self.timeout > WAIT_MAX / 2 {
            let most = WAIT_MAX.as_secs() / 2;
            return Err(("webhook.timeout", format!("a message does not wait for ever: set {most}s at most")));
        }
        if self.concurrency_max > QUESTIONS_MAX {
            let problem = format!("of one event {QUESTIONS_MAX} questions are out at one time at most: set less");
            return Err(("webhook.concurrency_max", problem));
        }
        if let Some(secret) = &self.secret {
            check_secret(secret.expose()).map_err(|problem| ("webhook.secret", problem))?;
        }
        for name in &self.forward_headers {
            check_header(name).map_err(|problem| ("webhook.forward_headers", problem))?;
        }
        for rule in channels {
            let needs = [
                (rule.webhook.subscribe, &self.subscribe_url, "subscribe_webhook", "webhook.subscribe_url"),
                (rule.webhook.publish, &self.publish_url, "publish_webhook", "webhook.publish_url"),
            ];
            if let Some((.., key, url)) = needs.into_iter().find(|(asks, url, ..)| *asks == Some(true) && url.is_none())
            {
                let pattern = &rule.pattern;
                return Err((url, format!("the rule for `{pattern}` has `{key}`, and there is nobody to ask: set it")));
            }
        }
        Ok(())
    }

    /// What an operator should look at twice.
    pub(super) fn doubts(&self) -> impl Iterator<Item = String> {
        let exposed = |(setting, url): (&'static str, Option<&str>)| {
            url.filter(|url| is_plain(url) && !is_local(url)).map(|_| {
                format!(
                    "`{setting}`: what is asked there is not encrypted, and whoever is on the way can answer: use \
                     https://, unless the network in between is your own"
                )
            })
        };
        let is_far = self.urls().into_iter().filter_map(|(_, url)| url).any(|url| !is_local(url));
        let unsigned = (is_far && self.secret.is_none()).then(|| {
            "`webhook.secret`: without it a backend on another host can't tell who asks it: set one \
             (echo \"whsec_$(openssl rand -base64 32)\")"
                .to_owned()
        });
        self.urls().into_iter().filter_map(exposed).chain(unsigned)
    }
}

fn is_plain(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http"))
}

/// Whether a URL leads to this machine.
fn is_local(url: &str) -> bool {
    let uri = url.parse::<Uri>().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn check_url(url: &str) -> Result<(), String> {
    let expected = || "expected a URL such as https://app.example.com/crore/connect".to_owned();
    let uri: Uri = url.parse().map_err(|_| expected())?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("no user and no password can stand in it: `webhook.secret` tells the backend who asks".to_owned());
    }
    match uri.scheme_str() {
        Some("https" | "http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        _ => Err(expected()),
    }
}

fn check_header(name: &str) -> Result<(), String> {
    match name.parse::<HeaderName>() {
        Ok(header) if !OWN_HEADERS.contains(&header.as_str()) => Ok(()),
        Ok(_) => Err(format!("`{name}` belongs to the request that carries it, and can't be forwarded: leave it out")),
        Err(_) => Err(format!("`{name}` is no name of a header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelWebhook;

    fn on() -> WebhookConfig {
        WebhookConfig { rpc_url: Some("http://127.0.0.1:9000/rpc".to_owned()), ..WebhookConfig::default() }
    }

    fn problem(config: &WebhookConfig) -> (&'static str, String) {
        config.check(&[]).unwrap_err()
    }

    #[test]
    fn urls_are_those_of_http() {
        for url in ["http://a/", "https://a.example/b?c=d", "http://[::1]:80", "http://127.0.0.1:9000/x"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in ["", "/connect", "a.example/b", "ftp://a/b", "https://u:p@a/", "http:///x", "http://a b/"] {
            assert!(check_url(url).is_err(), "{url}");
        }
        let config = WebhookConfig { connect_url: Some("connect".to_owned()), ..on() };
        assert_eq!(problem(&config).0, "webhook.connect_url");
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        assert_eq!(on().check(&[]), Ok(()));
        let secret = Some(Secret::new("short".to_owned()));
        assert_eq!(problem(&WebhookConfig { secret, ..on() }).0, "webhook.secret");
        for header in ["Host", "Content-Length", "a b", "", "Webhook-Signature"] {
            let forward_headers = vec!["cookie".to_owned(), header.to_owned()];
            assert_eq!(problem(&WebhookConfig { forward_headers, ..on() }).0, "webhook.forward_headers", "{header}");
        }
        assert_eq!(problem(&WebhookConfig { concurrency_max: QUESTIONS_MAX + 1, ..on() }).0, "webhook.concurrency_max");
        let waits = |timeout| WebhookConfig { timeout, ..on() };
        assert_eq!(waits(WAIT_MAX / 2).check(&[]), Ok(()));
        assert_eq!(problem(&waits(WAIT_MAX / 2 + Duration::from_millis(1))).0, "webhook.timeout");
        let rule = |subscribe, publish| ChannelRule {
            pattern: "a*".parse().unwrap(),
            webhook: ChannelWebhook { subscribe, publish },
            ..ChannelRule::default()
        };
        let (setting, text) = on().check(&[rule(None, Some(false)), rule(Some(true), None)]).unwrap_err();
        assert!(setting == "webhook.subscribe_url" && text.contains("`a*`"), "{text}");
        assert_eq!(on().check(&[rule(None, Some(true))]).unwrap_err().0, "webhook.publish_url");
        let publish_url = Some("https://a/".to_owned());
        assert_eq!(WebhookConfig { publish_url, ..on() }.check(&[rule(None, Some(true))]), Ok(()));
    }

    #[test]
    fn another_host_is_asked_with_a_signature_and_encrypted() {
        let doubts = |config: WebhookConfig| config.doubts().count();
        assert_eq!((doubts(WebhookConfig::default()), doubts(on())), (0, 0));
        let far = |url: &str| WebhookConfig { connect_url: Some(url.to_owned()), ..on() };
        assert_eq!((doubts(far("https://a/")), doubts(far("http://a/"))), (1, 2));
        let secret = Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()));
        assert_eq!(doubts(WebhookConfig { secret, ..far("https://a/") }), 0);
        assert!(far("https://a/").speaks_tls() && !far("http://a/").speaks_tls());
    }
}
