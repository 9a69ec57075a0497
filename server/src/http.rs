//! What is served beside WebSocket: the page, the state of health, the metrics, and the errors.

use std::borrow::Cow;
use std::time::Duration;

use crore_engine::protocol::handshake::is_upgrade;
use crore_engine::{EngineHandle, Request, Response};

use crate::config::HttpConfig;
use crate::metrics::Scrape;

/// The page for newcomers: one file, nothing to fetch.
const PAGE: &str = include_str!("page/index.html");

/// The path that the page connects to, as it stands in its script.
const PAGE_PATH: &str = "const path = \"/ws\";";

/// What the page may do: run what stands in it, and speak WebSocket.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
     connect-src ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The paths and what they lead to.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    websocket_paths: Vec<String>,
    page: Option<String>,
    metrics: bool,
}

/// Where a request leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    WebSocket,
    Page,
    Health,
    Ready,
    Metrics,
    MethodNotAllowed,
    NotFound,
}

impl Site {
    /// What a configuration says, and the path of the plain chat if there is one.
    pub(crate) fn new(config: &HttpConfig, chat: Option<&str>) -> Self {
        let chat = chat.filter(|path| !config.paths.iter().any(|known| known == path));
        Self {
            websocket_paths: config.paths.iter().cloned().chain(chat.map(str::to_owned)).collect(),
            page: config.page.then(|| page_for(&config.paths)),
            metrics: config.metrics,
        }
    }

    /// The answer to a request, or `None` if it is for the engine to upgrade it (or to say what an
    /// upgrade takes).
    pub(crate) fn answer(&self, request: &Request<'_>, scrape: &Scrape<'_>) -> Option<Response> {
        match self.route(request.method, request.path, is_upgrade(request)) {
            Route::WebSocket => None,
            Route::Page => self.page.as_deref().map(page),
            Route::Health => Some(health(scrape.uptime, scrape.engine.connections())),
            Route::Ready => Some(ready(scrape.engine)),
            Route::Metrics => Some(scrape.response()),
            Route::NotFound => Some(self.not_found()),
            Route::MethodNotAllowed => {
                let mut response = Response::text(405, "only GET and HEAD are allowed here\n");
                response.headers.push((Cow::Borrowed("Allow"), Cow::Borrowed("GET, HEAD")));
                Some(response)
            }
        }
    }

    fn route(&self, method: &str, path: &str, upgrade: bool) -> Route {
        let speaks_websocket = self.websocket_paths.iter().any(|known| known == path);
        let route = match path {
            _ if speaks_websocket && upgrade => Route::WebSocket,
            "/" if self.page.is_some() => Route::Page,
            "/healthz" => Route::Health,
            "/readyz" => Route::Ready,
            "/metrics" if self.metrics => Route::Metrics,
            _ if speaks_websocket => Route::WebSocket,
            _ => return Route::NotFound,
        };
        // The engine leaves the body out of the answer to HEAD.
        let reads = method == "GET" || (method == "HEAD" && route != Route::WebSocket);
        if reads { route } else { Route::MethodNotAllowed }
    }

    fn not_found(&self) -> Response {
        let paths = self.websocket_paths.join(" and ");
        Response::text(404, format!("nothing is here; WebSocket is at {paths}\n"))
    }
}

/// The page with the path that it should connect to: its own default where that is served.
fn page_for(paths: &[String]) -> String {
    let path = match paths {
        [first, ..] if !paths.iter().any(|path| path == "/ws") => first,
        _ => return PAGE.to_owned(),
    };
    // A script must not contain what would end it.
    let literal = serde_json::Value::from(path.as_str()).to_string().replace('<', "\\u003c");
    PAGE.replace(PAGE_PATH, &format!("const path = {literal};"))
}

fn page(html: &str) -> Response {
    Response {
        status: 200,
        content_type: Cow::Borrowed("text/html; charset=utf-8"),
        headers: [
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", PAGE_POLICY),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        .map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)))
        .into(),
        body: Cow::Owned(html.as_bytes().to_vec()),
    }
}

/// The core that answers is alive; the second listener's asks all of them.
fn health(uptime: Duration, connections: u64) -> Response {
    let body = serde_json::json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        "connections": connections,
    });
    json(200, &body)
}

/// Whether connections are welcome: no longer as soon as the server has begun to stop.
fn ready(engine: &EngineHandle) -> Response {
    if engine.is_draining() {
        json(503, &serde_json::json!({"status": "draining"}))
    } else {
        json(200, &serde_json::json!({"status": "ready"}))
    }
}

fn json(status: u16, body: &serde_json::Value) -> Response {
    Response {
        status,
        content_type: Cow::Borrowed("application/json"),
        headers: vec![(Cow::Borrowed("Cache-Control"), Cow::Borrowed("no-store"))],
        body: Cow::Owned(format!("{body}\n").into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn site(paths: &[&str], page: bool) -> Site {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Site::new(&HttpConfig { paths, page, metrics: false, ..Config::default().http }, None)
    }

    #[test]
    fn an_upgrade_goes_to_the_engine_on_the_listed_paths_alone() {
        let site = site(&["/", "/ws"], true);
        assert_eq!(site.route("GET", "/", true), Route::WebSocket);
        assert_eq!(site.route("GET", "/ws", true), Route::WebSocket);
        assert_eq!(site.route("GET", "/chat", true), Route::NotFound);
        assert_eq!(site.route("GET", "/ws/", true), Route::NotFound);
    }

    #[test]
    fn other_requests_find_the_page_the_health_or_a_reason() {
        let site = site(&["/", "/ws"], true);
        assert_eq!(site.route("GET", "/", false), Route::Page);
        assert_eq!(site.route("GET", "/healthz", false), Route::Health);
        assert_eq!(site.route("GET", "/readyz", false), Route::Ready);
        assert_eq!(site.route("GET", "/ws", false), Route::WebSocket, "the engine answers 426");
        assert_eq!(site.route("POST", "/ws", false), Route::MethodNotAllowed);
        assert_eq!(site.route("POST", "/", false), Route::MethodNotAllowed);
        assert_eq!(site.route("HEAD", "/", false), Route::Page);
        assert_eq!(site.route("HEAD", "/ws", false), Route::MethodNotAllowed);
        assert_eq!(site.route("GET", "/favicon.ico", false), Route::NotFound);
        assert_eq!(site.route("POST", "/nowhere", false), Route::NotFound);
    }

    #[test]
    fn the_page_can_be_switched_off() {
        assert_eq!(site(&["/ws"], false).route("GET", "/", false), Route::NotFound);
        assert_eq!(site(&["/ws"], false).route("GET", "/", true), Route::NotFound);
        assert_eq!(site(&["/"], false).route("GET", "/", false), Route::WebSocket);
    }

    #[test]
    fn metrics_are_shown_to_those_only_for_whom_they_are_switched_on() {
        let mut site = site(&["/ws"], false);
        assert_eq!(site.route("GET", "/metrics", false), Route::NotFound);
        site.metrics = true;
        assert_eq!(site.route("GET", "/metrics", false), Route::Metrics);
        assert_eq!(site.route("POST", "/metrics", false), Route::MethodNotAllowed);
    }

    #[test]
    fn health_is_json() {
        let body = health(Duration::from_secs(2), 0).body;
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value["status"], &value["uptime_ms"]), (&"ok".into(), &2000.into()));
    }

    #[test]
    fn the_page_fetches_nothing() {
        assert!(!PAGE.contains("<link") && !PAGE.contains("src=") && !PAGE.contains("@import"));
    }

    #[test]
    fn the_page_connects_to_a_path_that_is_served() {
        assert!(PAGE.contains(PAGE_PATH));
        let page = |path: &str| site(&[path], true).page.unwrap();
        assert!(page("/ws").contains(PAGE_PATH));
        assert!(page("/chat").contains("const path = \"/chat\";"));
        assert!(page("/</script>\"").contains("const path = \"/\\u003c/script>\\\"\";"));
    }
}
