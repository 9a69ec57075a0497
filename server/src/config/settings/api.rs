//! Section `api`.

use crate::config::Config;
use crate::config::setting::Reload::Restart;
use crate::config::setting::{self, Section, place};

type Setting = setting::Setting<Config>;

/// The second listener.
pub(super) const SECTION: Section = Section {
    name: "api",
    about: "A second listener: GET /healthz, /readyz and /metrics without a key, and below /api/ the server API for \
            backends, which GET /api/openapi.json describes.",
    settings: &[
        Setting::new(
            "api.enabled",
            Restart,
            place!(api.enabled),
            "Whether there is one. No port is opened that nobody has asked for.",
        ),
        Setting::new(
            "api.listen",
            Restart,
            place!(api.listen),
            "Its address and port. One that others than this machine reach takes a key, and TLS from a proxy before it. It \
             has 256 connections at one time: one more takes the place of the one that has been silent for the longest, and \
             at least for 100 ms (crore_api_evicted_total); a request's head has to come within 5 s.",
        ),
        Setting::new(
            "api.key",
            Restart,
            place!(api.key),
            "What opens /api/: at least 16 characters, sent as `Authorization: Bearer KEY` or `X-API-Key: KEY`, whatever \
             else is in the other one. `openssl rand -hex 32` makes one. Better set by the variable CRORE_API_KEY than in a \
             file. Without it /api/ is answered with 403.",
        )
        .example("\"0123456789abcdef0123456789abcdef\""),
        Setting::new(
            "api.client_addresses",
            Restart,
            place!(api.client_addresses),
            "Whether it is kept, for /api/connections to show, where each client is and when it came. It takes 64 \
             bytes for each connection, and some 100 more for one without a user.",
        ),
    ],
};
