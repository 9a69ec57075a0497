//! `crore-bench` loads WebSocket servers and measures what that costs them.
//!
//! ```text
//! cli ─► scenario ─► client (one thread, one ring) ─► server under test
//!           │            measure (/proc, clocks, HDR histogram)
//!           ▼
//!        Outcome ─► report (terminal, JSON)
//! compare: starts servers, runs scenarios on each in turn ─► report (Markdown, SVG, JSON)
//! ```

mod cli;
mod client;
mod compare;
mod cores;
mod environment;
mod measure;
mod report;
mod scenario;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use crore_engine::uring::raise_descriptor_limit;

use cli::{Cli, Command};
use environment::Environment;
use scenario::{Progress, Scenario};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Its soft limit is low for the sake of programs that call select(2).
    let _ = raise_descriptor_limit();
    // Asked before any thread is pinned.
    cores::CoreList::available();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crore-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    let mut markdown: Option<PathBuf> = None;
    let (json, scenario): (Option<PathBuf>, Scenario) = match command {
        Command::Echo(mut options) => (options.json.take(), Scenario::Echo(options)),
        Command::Fanout(mut options) => (options.json.take(), Scenario::Fanout(options)),
        Command::Idle(mut options) => (options.json.take(), Scenario::Idle(options)),
        Command::Hold(mut options) => {
            markdown = options.markdown.take();
            (options.json.take(), Scenario::Hold(options))
        }
        Command::Connect(mut options) => (options.json.take(), Scenario::Connect(options)),
        Command::Vanish(mut options) => (options.json.take(), Scenario::Vanish(options)),
        Command::Fill(mut options) => (options.json.take(), Scenario::Fill(options)),
        Command::Compare(options) => return Ok(compare::run(&options)?),
    };
    let outcome = scenario.run(&Progress::new(scenario.name()))?;
    print!("{}", report::terminal::outcome(&outcome));
    let environment = Environment::read();
    if let Some(path) = json {
        report::json::write(&path, &report::json::RunReport::new(&environment, &scenario, &outcome))?;
    }
    let Some(hold) = &outcome.hold else { return Ok(()) };
    if let Some(path) = markdown {
        report::hold::write(&path, &environment, &outcome, hold)?;
    }
    if hold.failures.is_empty() { Ok(()) } else { Err(hold.failures.join("; ").into()) }
}
