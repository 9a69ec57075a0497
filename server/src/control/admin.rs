//! The admin page: files for a browser, which hold no secret and are given to whoever reaches the second listener. What
//! the page shows it asks the server API for, with the key that its visitor has entered.

use std::hash::BuildHasher;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, REFERRER_POLICY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use foldhash::fast::FixedState;

use super::api::ApiState;

/// What the page may do: load what lies beside it, and ask the server that it comes from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $file:literal, $content_type:expr) => {
        Asset {
            path: concat!("/admin/", $path),
            content_type: $content_type,
            body: include_bytes!(concat!("admin/", $file)),
        }
    };
}

/// All of them. The charts are drawn by uPlot, whose files are those of the npm package that
/// `tests/interop/package-lock.json` names; `admin.test.mjs` there compares them.
static ASSETS: [Asset; 9] = [
    asset!("", "index.html", HTML),
    asset!("admin.css", "admin.css", STYLE),
    asset!("page.js", "page.js", SCRIPT),
    asset!("charts.js", "charts.js", SCRIPT),
    asset!("format.js", "format.js", SCRIPT),
    asset!("icon.svg", "icon.svg", "image/svg+xml"),
    asset!("uPlot.iife.min.js", "uPlot.iife.min.js", SCRIPT),
    asset!("uPlot.min.css", "uPlot.min.css", STYLE),
    asset!("uPlot.LICENSE", "uPlot.LICENSE", TEXT),
];

/// The routes of the page.
pub(super) fn routes() -> Router<ApiState> {
    let to_page = get(async || (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "admin/")]));
    ASSETS.iter().fold(Router::new().route("/admin", to_page), |router, asset| {
        let tag = asset.tag();
        router.route(asset.path, get(async move |headers: HeaderMap| asset.response(&tag, &headers)))
    })
}

impl Asset {
    /// Another one for another content (RFC 9110, section 8.8.3).
    fn tag(&self) -> String {
        format!("\"{:x}-{:016x}\"", self.body.len(), FixedState::default().hash_one(self.body))
    }

    /// The file, or that the browser has it already. It asks each time: a server may be replaced by another version.
    fn response(&self, tag: &str, request: &HeaderMap) -> Response {
        let common = [(ETAG, tag), (CACHE_CONTROL, "no-cache")];
        if has_tag(request, tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let headers =
            [(CONTENT_TYPE, self.content_type), (CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer")];
        (common, headers, self.body).into_response()
    }
}

/// Whether the browser has what has this tag (RFC 9110, section 13.1.2).
fn has_tag(request: &HeaderMap, tag: &str) -> bool {
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(if_none_match: &str) -> HeaderMap {
        HeaderMap::from_iter([(IF_NONE_MATCH, if_none_match.parse().unwrap())])
    }

    #[test]
    fn a_file_is_sent_once_until_it_changes() {
        let (page, tag) = (&ASSETS[0], ASSETS[0].tag());
        let fresh = page.response(&tag, &HeaderMap::new());
        assert!(fresh.status() == StatusCode::OK && fresh.headers()[ETAG] == tag.as_str());
        assert!(fresh.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let response = page.response(&tag, &request(&known));
            assert!(response.status() == StatusCode::NOT_MODIFIED && response.headers()[ETAG] == tag.as_str());
        }
        assert_eq!(page.response(&tag, &request("\"other\"")).status(), StatusCode::OK);
        let tags = ASSETS.iter().map(Asset::tag).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(tags.len(), ASSETS.len(), "each has its own");
    }
}
