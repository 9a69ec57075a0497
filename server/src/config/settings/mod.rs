//! The table of settings: each of them once, with all that is known of it.
//!
//! Reading, checking, reloading, the commented sample and the reference follow from this table. To add a setting, add
//! its field to [`Config`] and its entry here; `crore.toml` is then written anew by `crore default-config`.

mod api;
mod auth;
mod channels;
mod compression;
mod history;
mod limits;
mod outbound_batch;
mod presence;
mod rate_limit;
mod typing;
mod webhook;

pub(super) use self::channels::CHANNEL_SETTINGS;

use super::Config;
use super::setting::Reload::{Live, Restart};
use super::setting::{self, Place, Section, Shown, place};
use super::value::{Bytes, SettingValue as _};
use crate::node::check_name;

type Setting = setting::Setting<Config>;

/// All settings but those of `[[channels]]`, in the order in which they are shown.
pub(super) const SECTIONS: &[Section] = &[
    GENERAL,
    Section { name: "http", about: "What HTTP requests find beside WebSocket.", settings: HTTP },
    api::SECTION,
    Section { name: "welcome", about: "The message that greets a new connection.", settings: WELCOME },
    Section {
        name: "chat",
        about: "One room for clients that know no channels: they join, speak and leave.",
        settings: CHAT,
    },
    Section { name: "identity", about: "Who a connection is.", settings: IDENTITY },
    auth::SECTION,
    Section { name: "clients", about: "What clients may do.", settings: CLIENTS },
    history::SECTION,
    typing::SECTION,
    presence::SECTION,
    compression::SECTION,
    limits::SECTION,
    outbound_batch::SECTION,
    rate_limit::SECTION,
    webhook::SECTION,
    Section { name: "log", about: "Logs go to the standard error stream.", settings: LOG },
];

/// The same without their sections.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    SECTIONS.iter().flat_map(|section| section.settings)
}

const GENERAL: Section = Section {
    name: "",
    about: "",
    settings: &[
        Setting::new(
            "name",
            Restart,
            place!(name),
            "Name of this server, for those who have several: `server` in the first line of the log and in \
             crore_server_info, `name` in GET /api/stats, each beside the identifier of this run of it, and beside \
             each connection in presence. Without it: the name of the host.",
        )
        .example("\"edge-1\"")
        .checked("1 to 64 ASCII letters, digits, `.`, `-` or `_`", |config| {
            config.name.as_deref().map_or(Ok(()), check_name)
        }),
        Setting::new(
            "listen",
            Restart,
            place!(listen),
            "Address and port. 0.0.0.0 or [::] listens on every interface; the default is reached from this machine alone.",
        ),
        Setting::new(
            "trusted_proxies",
            Restart,
            place!(trusted_proxies),
            "Networks of the proxies whose word is taken about where a client is (`client_address_header`) and, where \
             `identity.trust_user_header` is on, who it is. Nobody else's is taken then. Without any: a client is where \
             its connection comes from. No network of clients: whoever is in one can say that it is anywhere.",
        ),
        Setting::new(
            "client_address_header",
            Restart,
            place!(client_address_header),
            "The header in which trusted proxies say where a client is. A list is read from the right, as far as those \
             who wrote it are trusted; what is not well-formed ends it, and nothing left of that counts.",
        ),
        Setting::new(
            "proxy_protocol",
            Restart,
            place!(proxy_protocol),
            "Whether every connection begins with a header of the PROXY protocol, version 2, in which a proxy says \
             whose it is (HAProxy: `send-proxy-v2`). One that does not, or comes from outside of `trusted_proxies`, is \
             cut. `client_address_header` counts only where the address in that header is a trusted proxy's too. Where it \
             has none, neither that header of the request nor X-User-ID counts: nobody knows who has written them.",
        ),
        Setting::new(
            "cores",
            Restart,
            place!(cores),
            "Workers, each pinned to a core. Without it: every core that the process may run on.",
        )
        .example("2"),
        Setting::new(
            "descriptors",
            Restart,
            place!(descriptors),
            "Kind of descriptor for connections. Direct ones need Linux 6.13, count for each core instead of the \
             process, and are what `auto` takes where they work.",
        ),
        Setting::new(
            "memory_budget",
            Restart,
            Place {
                put: |config, value| {
                    config.engine.memory_budget_bytes = Some(Bytes::from_value(value)?.0);
                    Ok(())
                },
                show: |config| Shown::of(&config.engine.memory_budget_bytes.map(Bytes)),
                copy: |config, other| config.engine.memory_budget_bytes = other.engine.memory_budget_bytes,
            },
            "Bytes that connections may take, the kernel's share included. At 15/16 of it new connections are answered \
             with 503, at all of it those that hold the most are closed with 1013; idle ones stay. Without it: 80 % of \
             what the cgroup's memory limit leaves, or of what the host has available at the start, whichever is less.",
        )
        .example("\"8GiB\""),
        Setting::new(
            "shutdown_timeout",
            Live,
            place!(shutdown_timeout),
            "How long clients may take to answer the close frame (1001) when the server stops.",
        ),
        Setting::new(
            "shutdown_spread",
            Live,
            place!(shutdown_spread),
            "The time over which a server that stops spreads its closes, so that its clients do not all come back at \
             once. With it they are closed with 1012, and the reason says when to come back: `restart; reconnect in \
             1-30 s`. Without it: all at once, with 1001.",
        )
        .example("\"30s\""),
        Setting::new(
            "shutdown_reconnect_delay",
            Live,
            place!(shutdown_reconnect_delay),
            "The longest delay, in whole seconds, after which clients are asked to come back with `shutdown_spread`; \
             each takes one of its own between a second and this.",
        ),
    ],
};

const HTTP: &[Setting] = &[
    Setting::new(
        "http.paths",
        Live,
        place!(http.paths),
        "Paths that speak WebSocket; another path is answered with 404.",
    )
    .checked("a list of paths, each beginning with `/`", |config| {
        match config.http.paths.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(format!("a path begins with `/`: `{path}` does not")),
            None if config.http.paths.is_empty() => Err("expected at least one path, such as \"/ws\"".to_owned()),
            None => Ok(()),
        }
    }),
    Setting::new(
        "http.page",
        Live,
        place!(http.page),
        "Whether GET / answers with the page that shows the server at work.",
    ),
    Setting::new(
        "http.metrics",
        Live,
        place!(http.metrics),
        "Whether GET /metrics answers with the engine's counters and its memory by class, for Prometheus. Whoever \
         reaches the port sees them.",
    ),
    Setting::new(
        "http.allowed_origins",
        Live,
        place!(http.allowed_origins),
        "Origins whose pages may connect from a browser: `https://example.com`, `https://*.example.com` (every name below \
         it, not itself), `*`. Without one, every page may. A client that names no origin is no browser.",
    ),
    Setting::new(
        "http.origin_rejection",
        Live,
        place!(http.origin_rejection),
        "How other origins are refused: by `403` before the upgrade, which costs least, or by the close code `1008` \
         (\"Origin not allowed\") after it, which a page can read.",
    ),
    Setting::new(
        "http.require_origin",
        Live,
        place!(http.require_origin),
        "Whether clients that name no origin are refused as well, where origins are listed.",
    ),
    Setting::new(
        "http.csrf_cookie",
        Live,
        place!(http.csrf_cookie),
        "Name of a cookie whose value a page has to repeat in the query of its request, `?csrf=VALUE`; one that does not is \
         refused like one of another origin. Pages of other sites can have the cookie sent, and can't read it. Your own \
         site sets it to something random, with SameSite and without HttpOnly. A client that names no origin is no \
         browser, and needs none. Without it: no page has to.",
    )
    .checked("the name of a cookie (RFC 6265, section 4.1.1)", |config| match &config.http.csrf_cookie {
        Some(name) if !auth::is_token(name) => {
            Err(format!("a cookie's name is a word of letters, digits and any of !#$%&'*+-.^_`|~: `{name}` is none"))
        }
        _ => Ok(()),
    })
    .example("\"csrf\""),
    Setting::new(
        "http.subprotocols",
        Live,
        place!(http.subprotocols),
        "Subprotocols that the server selects from: the first of the client's that is one of them. Without effect but for \
         browsers, which close a connection when they offer some and none is selected.",
    )
    .checked("a list of tokens (RFC 9110, section 5.6.2)", |config| {
        match config.http.subprotocols.iter().find(|name| !auth::is_subprotocol(name)) {
            Some(name) => Err(format!(
                "a subprotocol is a word of letters, digits and any of !#$%&'*+-.^_`|~ that does not begin with `auth.`: \
                 `{name}` is none"
            )),
            None => Ok(()),
        }
    }),
];

const WELCOME: &[Setting] = &[
    Setting::new(
        "welcome.enabled",
        Live,
        place!(welcome.enabled),
        "Whether a new connection is sent {\"type\":\"welcome\",\"message\":…,\"connection_id\":…,\"user_id\":…,\
         \"timestamp\":…}.",
    ),
    Setting::new("welcome.message", Live, place!(welcome.message), "The text of that message."),
];

const CHAT: &[Setting] = &[Setting::new(
    "chat.path",
    Live,
    place!(chat.path),
    "Path of that room, whether or not it is one of `http.paths`. There everyone sends \
         {\"type\":\"join\",\"username\":…} and {\"type\":\"message\",\"content\":…}, and receives what the others do, \
         with `username`, `content` and `timestamp`. Without it: there is no such room.",
)
.example("\"/chat\"")
.checked("a path that begins with `/`", |config| match config.chat.path.as_deref() {
    Some(path) if !path.starts_with('/') => Err(format!("a path begins with `/`: `{path}` does not")),
    _ => Ok(()),
})];

const IDENTITY: &[Setting] = &[Setting::new(
    "identity.trust_user_header",
    Live,
    place!(identity.trust_user_header),
    "Whether the header X-User-ID names the user of a new connection. Only where every client comes through a proxy \
     that sets this header itself, once, in place of any that the client sends: with any other client it would be a way \
     to be anyone. The word of `trusted_proxies` is taken, by the address of the proxy itself; without them that of \
     everyone, which only a `listen` on 127.0.0.1 or ::1 allows. 1 to 128 bytes, and not the form of a connection's \
     identifier (`0-1-a2`); a request with another one, or with two, is answered with 400.",
)];

const CLIENTS: &[Setting] = &[
    Setting::new(
        "clients.broadcast",
        Live,
        place!(clients.broadcast),
        "Whether a client may send to every connection (`broadcast`).",
    ),
    Setting::new("clients.private", Live, place!(clients.private), "Whether a client may send to a user (`private`)."),
];

const LOG: &[Setting] = &[
    Setting::new(
        "log.format",
        Restart,
        place!(log.format),
        "How a line looks: `text` for people, `json` for programs.",
    ),
    Setting::new(
        "log.level",
        Live,
        place!(log.level),
        "Least level that is written: error, warn, info, debug or trace.",
    ),
    Setting::new(
        "log.connections",
        Restart,
        place!(log.connections),
        "Whether each connection is logged when it opens and when it closes: connection, user, address, code, reason, \
         cause, duration. Without it only at the level debug.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_section_and_a_name_once() {
        for section in SECTIONS {
            for setting in section.settings {
                let within = setting.key.rsplit_once('.').map_or("", |(section, _)| section);
                assert_eq!(within, section.name, "{}", setting.key);
            }
        }
        let mut keys: Vec<_> = settings().map(|setting| setting.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), settings().count());
    }

    #[test]
    fn a_setting_has_either_a_default_or_an_example() {
        let shown = settings().map(|setting| (setting.key, setting.default(), setting.example));
        let of_rules = CHANNEL_SETTINGS.iter().map(|setting| (setting.key, setting.default(), setting.example));
        for (key, default, example) in shown.chain(of_rules) {
            assert!(default.is_some() != example.is_some(), "{key}: default {default:?}, example {example:?}");
        }
    }

    #[test]
    fn a_copy_takes_the_setting_and_nothing_else() {
        let mut other = Config::default();
        other.welcome.message = "Hi".to_owned();
        other.clients.private = false;
        let mut config = Config::default();
        Setting::find(settings(), "clients.private").unwrap().copy(&mut config, &other);
        assert!(!config.clients.private);
        assert_eq!(config.welcome.message, Config::default().welcome.message);
    }
}
