//! The servers that come with the repository, and how each is started.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::server::ExtraServer;

/// What a server does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Sends each back.
    Echo,
    /// Sends each to all.
    Broadcast,
}

impl Mode {
    /// The word for `{mode}` in a command.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
        }
    }
}

/// A server as a comparison knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Server {
    /// Its name in reports.
    pub(crate) name: String,
    /// Its command, with `{port}`, `{mode}`, `{core}` and `{cores}` still in it.
    pub(crate) command: String,
    /// Whether messages go through channels, in the JSON protocol of `crore`.
    pub(crate) channels: bool,
}

/// A server that is not in the catalogue, or not built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CatalogueError {
    /// The name is unknown.
    #[error("there is no server `{name}`: choose from {known}, or name it with --extra")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The program is missing.
    #[error("{name} is not built: {path} is missing; build it with `{build}`", path = path.display())]
    NotBuilt {
        /// The server.
        name: &'static str,
        /// What is missing.
        path: PathBuf,
        /// What to do.
        build: &'static str,
    },
    /// Nothing to compare.
    #[error("no server is built: run `{}` first, or name one with --extra", BUILD_CRORE)]
    Nothing,
}

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Cargo's target directory of this workspace.
    pub(crate) target: PathBuf,
    /// Where `benches/rivals/build` has put the rivals.
    pub(crate) rivals: PathBuf,
}

/// A row of the catalogue.
struct Row {
    name: &'static str,
    /// The file that has to be there, below one of the [`Places`].
    needs: &'static str,
    command: &'static str,
    build: &'static str,
    channels: bool,
}

const BUILD_CRORE: &str = "cargo build --release --package crore-engine --examples";
const BUILD_CRORE_SERVER: &str = "cargo build --release --package crore-server";
const BUILD_RIVALS: &str = "benches/rivals/build";

/// The first is the base of a comparison unless another is chosen.
const CATALOGUE: [Row; 9] = [
    Row {
        name: "crore",
        needs: "{target}/release/examples/{mode}",
        command: "{target}/release/examples/{mode} 127.0.0.1:{port} --cores {cores}",
        build: BUILD_CRORE,
        channels: false,
    },
    Row {
        name: "crore-server",
        needs: "{target}/release/crore",
        command: "{target}/release/crore --listen 127.0.0.1:{port} --cores {cores}",
        build: BUILD_CRORE_SERVER,
        channels: true,
    },
    rival("fastwebsockets", "{rivals}/release/rival-fastwebsockets"),
    rival("tokio-tungstenite", "{rivals}/release/rival-tokio-tungstenite"),
    rival("tokio-tungstenite-defaults", "{rivals}/release/rival-tokio-tungstenite"),
    rival("sockudo-ws", "{rivals}/release/rival-sockudo-ws"),
    rival("ntex", "{rivals}/release/rival-ntex"),
    rival("node-ws", "{rivals}/node/node_modules/ws/package.json"),
    rival("bun", "{rivals}/bun/node_modules/.bin/bun"),
];

/// A rival becomes the process that is started, so that its PID is known.
const fn rival(name: &'static str, needs: &'static str) -> Row {
    Row {
        name,
        needs,
        command: "env RIVALS_DIR={rivals} benches/rivals/start {name} {mode} --port {port}",
        build: BUILD_RIVALS,
        channels: false,
    }
}

impl Places {
    fn fill(&self, template: &str) -> String {
        template.replace("{target}", &self.target.to_string_lossy()).replace("{rivals}", &self.rivals.to_string_lossy())
    }

    fn missing(&self, row: &Row) -> Option<PathBuf> {
        let paths = [Mode::Echo, Mode::Broadcast]
            .map(|mode| PathBuf::from(self.fill(row.needs).replace("{mode}", mode.name())));
        paths.into_iter().find(|path| !Path::exists(path))
    }
}

/// The servers with these names, in this order; all that are built, and all extra ones, if no name is given.
///
/// # Errors
/// A name is unknown, its server is not built, or there is nothing.
pub(crate) fn choose(names: &[String], extra: &[ExtraServer], places: &Places) -> Result<Vec<Server>, CatalogueError> {
    let from_row = |row: &Row| Server {
        name: row.name.to_owned(),
        command: places.fill(row.command).replace("{name}", row.name),
        channels: row.channels,
    };
    let from_extra =
        |extra: &ExtraServer| Server { name: extra.name.clone(), command: extra.command.clone(), channels: false };
    if names.is_empty() {
        let built = CATALOGUE.iter().filter(|row| places.missing(row).is_none()).map(from_row);
        let all: Vec<Server> = built.chain(extra.iter().map(from_extra)).collect();
        return if all.is_empty() { Err(CatalogueError::Nothing) } else { Ok(all) };
    }
    names
        .iter()
        .map(|name| {
            if let Some(extra) = extra.iter().find(|extra| extra.name == *name) {
                return Ok(from_extra(extra));
            }
            let Some(row) = CATALOGUE.iter().find(|row| row.name == name) else {
                let known = CATALOGUE.iter().map(|row| row.name).chain(extra.iter().map(|extra| extra.name.as_str()));
                return Err(CatalogueError::Unknown {
                    name: name.clone(),
                    known: known.collect::<Vec<_>>().join(", "),
                });
            };
            match places.missing(row) {
                Some(path) => Err(CatalogueError::NotBuilt { name: row.name, path, build: row.build }),
                None => Ok(from_row(row)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Places {
        let nowhere = PathBuf::from("/nonexistent");
        Places { target: nowhere.clone(), rivals: nowhere }
    }

    fn extra() -> Vec<ExtraServer> {
        vec!["uws=./uws {port}".parse().expect("a server"), "crore=./other {port}".parse().expect("a server")]
    }

    #[test]
    fn names_choose_in_their_order_and_extra_ones_come_first() {
        let names = ["crore".to_owned(), "uws".to_owned()];
        let servers = choose(&names, &extra(), &nowhere()).expect("both are extra");
        let commands: Vec<_> = servers.iter().map(|server| server.command.as_str()).collect();
        assert_eq!(commands, ["./other {port}", "./uws {port}"]);
    }

    #[test]
    fn without_names_all_that_is_there_is_taken() {
        let servers = choose(&[], &extra(), &nowhere()).expect("two are extra");
        assert_eq!(servers.len(), 2);
        assert_eq!(choose(&[], &[], &nowhere()), Err(CatalogueError::Nothing));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let error = |name: &str| choose(&[name.to_owned()], &[], &nowhere()).expect_err(name).to_string();
        assert!(error("uws").contains("choose from crore, crore-server, fastwebsockets"), "{}", error("uws"));
        assert!(error("crore").contains(BUILD_CRORE), "{}", error("crore"));
        assert!(error("bun").contains("/nonexistent/bun/node_modules/.bin/bun is missing"), "{}", error("bun"));
    }
}
