//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::Server;
use crate::config::{Config, Flag};
use crate::log;

/// A WebSocket server for very many connections.
#[derive(Debug, Parser)]
#[command(name = "crore", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server; what `crore` does without a command.
    Serve(Serve),
}

/// Flags outrank the environment (CRORE_LISTEN, CRORE_CORES, …), and that the file.
#[derive(Clone, Debug, Default, Args)]
struct Serve {
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Cores, each with one worker pinned to it [default: all]
    #[arg(long, value_name = "NUMBER")]
    cores: Option<String>,
    /// Configuration file, TOML [default: none, or what CRORE_CONFIG names]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: &Option<String>| value.clone().map(|value| Flag { name, key, value });
        [flag("--listen", "listen", &self.listen), flag("--cores", "cores", &self.cores)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn run(self) -> ExitCode {
        // What is not text is no setting and no value: made into text it is refused like any other.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let flags = self.flags();
        let config = match Config::load(self.config, environment, &flags) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("crore: {error}");
                return ExitCode::from(USAGE);
            }
        };
        log::start(&config.log);
        match Server::new(config).run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// What clap exits with for a flag that does not exist; a setting that does not exist is no different.
const USAGE: u8 = 2;

/// Does what the command line says, and returns what the process should exit with: 0 after a drain,
/// 1 if the server could not start or go on, 2 if the configuration is wrong.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { command, serve } = Cli::parse();
    match command {
        Some(Command::Serve(serve)) => serve.run(),
        None => serve.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_what_happens_without_a_command() {
        let listen = |arguments: &[&str]| {
            let cli = Cli::try_parse_from(arguments).unwrap();
            let Command::Serve(serve) = cli.command.unwrap_or(Command::Serve(cli.serve));
            serve.listen
        };
        assert_eq!(listen(&["crore"]), None);
        assert_eq!(listen(&["crore", "--listen", "a"]).as_deref(), Some("a"));
        assert_eq!(listen(&["crore", "serve", "--listen", "a"]).as_deref(), Some("a"));
        assert!(Cli::try_parse_from(["crore", "--listne", "a"]).is_err());
    }
}
