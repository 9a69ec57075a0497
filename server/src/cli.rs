//! The command line.

mod configuration;

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, value_parser};
use crore_engine::uring::raise_descriptor_limit;
use rustix::thread::disable_transparent_huge_pages;

use crate::app::Server;
use crate::auth::{CheckToken, GenToken};
use crate::config::{AuthConfig, Config, ConfigErrors, Flag, Sources};
use crate::doctor::{self, Question, Role};
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
    /// Says whether this host can hold so many connections, and what stands in the way.
    ///
    /// Exit code: 0 if all is well, 1 with warnings, 2 if the host can't. It looks at the limits of the user, the
    /// shell and the container that it is run in.
    Doctor(Doctor),
    /// Says whether the configuration is right, and what the server would do with it.
    ///
    /// It is read as for serving: the file, the environment, the flags. Exit code: 0 if it is right, 2 if not.
    CheckConfig(CheckConfig),
    /// Prints a configuration file with every setting, its meaning and its default.
    DefaultConfig,
    /// Prints the reference of all settings, in Markdown.
    ConfigDoc,
    /// Prints a token that the server accepts, signed with its secret or with a private key.
    GenToken(WithConfig<GenToken>),
    /// Says whether the server would accept a token, and if not, why.
    ///
    /// Exit code: 0 if it would, 1 if not, 2 if the configuration has no usable keys.
    CheckToken(WithConfig<CheckToken>),
}

/// A command beside the server, by the server's configuration.
#[derive(Clone, Debug, Args)]
struct WithConfig<T: Args> {
    #[command(flatten)]
    command: T,
    #[command(flatten)]
    serve: Serve,
}

impl<T: Args> WithConfig<T> {
    fn run(self, run: impl FnOnce(T, &AuthConfig) -> ExitCode) -> ExitCode {
        match self.serve.config() {
            Ok(config) => run(self.command, &config.auth),
            Err(code) => code,
        }
    }
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

/// A question to the doctor.
#[derive(Clone, Debug, Args)]
struct Doctor {
    /// How many connections the host shall hold
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u64).range(1..=CONNECTIONS_ASKED_MAX))]
    connections: u64,
    /// Which ends of the connections the host has
    #[arg(long, value_enum, default_value_t, value_name = "END")]
    host: Role,
    /// All that was found, as JSON
    #[arg(long)]
    json: bool,
    /// The server's: its cores, descriptors, port and bounds count.
    #[command(flatten)]
    serve: Serve,
}

/// As many as the scripts of `tuning/` take, which compute with 64 bits.
const CONNECTIONS_ASKED_MAX: u64 = 999_999_999_999;

impl Doctor {
    fn run(self) -> ExitCode {
        let config = match self.serve.config() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let report = doctor::examine(Question {
            connections: self.connections,
            role: self.host,
            cores: config.workers(),
            descriptors: config.descriptors,
            listen: config.listen,
            limits: config.engine,
        });
        print(&if self.json {
            serde_json::to_string_pretty(&report).map_or_else(|error| error.to_string(), |json| json + "\n")
        } else {
            report.to_string()
        });
        ExitCode::from(report.verdict.exit_code())
    }
}

impl Serve {
    fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: &Option<String>| value.clone().map(|value| Flag { name, key, value });
        [flag("--listen", "listen", &self.listen), flag("--cores", "cores", &self.cores)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Where the configuration comes from.
    fn sources(self) -> Sources {
        // What is not text is no setting and no value: made into text it is refused like any other.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let flags = self.flags();
        Sources::new(self.config, environment, flags)
    }

    /// The configuration, or what to exit with; the reason has been said.
    fn config(self) -> Result<Config, ExitCode> {
        self.sources().load().map_err(|errors| refuse(&errors))
    }

    fn run(self, on_trim: fn()) -> ExitCode {
        let sources = self.sources();
        let config = match sources.load() {
            Ok(config) => config,
            Err(errors) => return refuse(&errors),
        };
        log::start(&config.log);
        // The soft limit is low for the sake of programs that call select(2).
        let _ = raise_descriptor_limit();
        // A huge page stays for a few bytes that are in use, and khugepaged fills the gaps that were given back.
        let _ = disable_transparent_huge_pages(true);
        match Server::new(config).reload_from(sources).on_trim(on_trim).run() {
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

/// A question about the configuration.
#[derive(Clone, Debug, Args)]
struct CheckConfig {
    /// Configuration file, TOML [default: none, or what CRORE_CONFIG names]
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: Serve,
}

impl CheckConfig {
    fn run(self) -> ExitCode {
        let Self { file, mut serve } = self;
        serve.config = file.or(serve.config);
        let sources = serve.sources();
        match sources.load() {
            Ok(config) => {
                print(&configuration::account(&config, sources.file()));
                ExitCode::SUCCESS
            }
            Err(errors) => refuse(&errors),
        }
    }
}

/// Says all that is wrong with a configuration.
fn refuse(errors: &ConfigErrors) -> ExitCode {
    for error in errors.iter() {
        eprintln!("crore: {error}");
    }
    ExitCode::from(USAGE)
}

fn print(text: &str) {
    // Who reads no further, `head` for example, still wants the exit code.
    let _ = stdout().write_all(text.as_bytes());
}

/// Does what the command line says, and returns what the process should exit with: 0 after a drain,
/// 1 if the server could not start or go on, 2 if the configuration is wrong; the doctor's own are its verdict.
/// `on_trim` is for [`Server::on_trim`].
#[must_use]
pub fn run(on_trim: fn()) -> ExitCode {
    let Cli { command, serve } = Cli::parse();
    match command {
        Some(Command::Serve(serve)) => serve.run(on_trim),
        Some(Command::Doctor(doctor)) => doctor.run(),
        Some(Command::CheckConfig(check)) => check.run(),
        Some(Command::DefaultConfig) => {
            print(&Config::sample());
            ExitCode::SUCCESS
        }
        Some(Command::ConfigDoc) => {
            print(&Config::reference());
            ExitCode::SUCCESS
        }
        Some(Command::GenToken(command)) => command.run(GenToken::run),
        Some(Command::CheckToken(command)) => command.run(CheckToken::run),
        None => serve.run(on_trim),
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
            let Command::Serve(serve) = cli.command.unwrap_or(Command::Serve(cli.serve)) else { panic!("it serves") };
            serve.listen
        };
        assert_eq!(listen(&["crore"]), None);
        assert_eq!(listen(&["crore", "--listen", "a"]).as_deref(), Some("a"));
        assert_eq!(listen(&["crore", "serve", "--listen", "a"]).as_deref(), Some("a"));
        assert!(Cli::try_parse_from(["crore", "--listne", "a"]).is_err());
    }
}
