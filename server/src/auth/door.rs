//! What a request goes through before it is a connection: its origin, its subprotocols, its token.

use std::borrow::Cow;

use crore_engine::protocol::handshake::is_upgrade;
use crore_engine::{Answer, Context, Request, Response};

use super::origin::{self, OriginPattern, OriginRejection};
use super::source::{SUBPROTOCOL_PREFIX, offered_subprotocols, repeats_cookie};
use super::{Auth, TokenSource, login};
use crate::config::HttpConfig;
use crate::session::Connection;

/// Close code of a connection whose origin is not allowed (RFC 6455, section 7.4.1).
const CODE_POLICY_VIOLATION: u16 = 1008;

const ORIGIN_NOT_ALLOWED: &str = "Origin not allowed";

const CSRF_TOKEN_WRONG: &str = "CSRF token missing or wrong";

/// What a page reads, in its browser's tools for developers, that offers nothing but a token.
const ONLY_A_TOKEN: &str = "A browser closes a connection when the server selects none of the subprotocols that were \
     offered, and a token is never sent back. Offer one that the server has (`http.subprotocols`) beside the token, for \
     example: new WebSocket(url, ['crore', 'auth.' + token])\n";

/// Who may come in, and how.
#[derive(Debug)]
pub(crate) struct Door {
    origins: Vec<OriginPattern>,
    origin_required: bool,
    rejection: OriginRejection,
    csrf_cookie: Option<String>,
    subprotocols: Vec<String>,
}

impl Door {
    pub(crate) fn new(config: &HttpConfig) -> Self {
        Self {
            origins: config.allowed_origins.clone(),
            origin_required: config.require_origin,
            rejection: config.origin_rejection,
            csrf_cookie: config.csrf_cookie.clone(),
            subprotocols: config.subprotocols.clone(),
        }
    }

    /// Judges a request for an upgrade, and answers it. A connection that is turned away after the upgrade is closed
    /// here already, and never opens.
    pub(crate) fn answer(
        &self,
        auth: Option<&Auth>,
        context: &mut Context<'_>,
        connection: &mut Connection,
        request: &Request<'_>,
        text: &mut String,
    ) -> Answer {
        // The engine says what an upgrade takes.
        if !is_upgrade(request) {
            return Answer::upgrade();
        }
        let subprotocol = self.select_subprotocol(request);
        let upgrade = Answer::Upgrade { subprotocol: subprotocol.map(str::to_owned) };
        if !origin::is_allowed(request, &self.origins, self.origin_required) {
            return self.reject(context, request, upgrade, ORIGIN_NOT_ALLOWED);
        }
        if let Some(cookie) = &self.csrf_cookie
            && request.header("Origin").is_some()
            && !repeats_cookie(request, cookie)
        {
            return self.reject(context, request, upgrade, CSRF_TOKEN_WRONG);
        }
        let Some(auth) = auth else { return upgrade };
        if auth.sources.contains(&TokenSource::Subprotocol)
            && subprotocol.is_none()
            && is_page_with_only_a_token(request)
        {
            return Answer::Respond(Response::text(400, ONLY_A_TOKEN));
        }
        match auth.token(request) {
            Some(token) => login::show(auth, context, connection, text, &token),
            None => login::await_message(auth, context, connection, text),
        }
        upgrade
    }

    fn reject(&self, context: &mut Context<'_>, request: &Request<'_>, upgrade: Answer, why: &'static str) -> Answer {
        tracing::debug!(connection = %context.id(), origin = request.header("Origin"), "refused: {why}");
        match self.rejection {
            OriginRejection::Forbidden => Answer::Respond(forbidden(why)),
            OriginRejection::PolicyViolation => {
                context.close(CODE_POLICY_VIOLATION, why);
                upgrade
            }
        }
    }

    /// The first that the client offers and the server has. A token is none.
    fn select_subprotocol<'r>(&self, request: &Request<'r>) -> Option<&'r str> {
        offered_subprotocols(request).find(|offer| self.subprotocols.iter().any(|ours| ours == offer))
    }
}

/// Whether a browser's page has offered a token as its only subprotocol. Other clients let that pass.
fn is_page_with_only_a_token(request: &Request<'_>) -> bool {
    let mut offers = offered_subprotocols(request).peekable();
    request.header("Origin").is_some()
        && offers.peek().is_some()
        && offers.all(|offer| offer.starts_with(SUBPROTOCOL_PREFIX))
}

fn forbidden(why: &str) -> Response {
    let mut response = Response::text(403, format!("{why}\n"));
    // A cache must not hand this to a page that is allowed.
    response.headers.push((Cow::Borrowed("Vary"), Cow::Borrowed("Origin")));
    response
}
