//! Several servers in one run: each is started, loaded and ended in every round, one after the
//! other (A B A B), so that what the machine does in the meantime meets all of them.

mod catalogue;
mod metric;
mod server;
mod statistics;

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{
    CompareOptions, ConnectOptions, EchoOptions, FanoutOptions, IdleOptions, MemoryOptions, Publisher, ScenarioName,
    TargetOptions,
};
use crate::environment::Environment;
use crate::report;
use crate::scenario::{Outcome, Progress, Scenario, ScenarioError};
pub(crate) use catalogue::{CatalogueError, Mode, Places, Server};
pub(crate) use metric::{Metric, plural};
pub(crate) use server::{ExtraServer, RunningServer};
pub(crate) use statistics::{Ratio, Spread};

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// The servers.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The base is not among the servers.
    #[error("the base `{base}` is not measured: add it to --servers ({servers})")]
    Base {
        /// The name.
        base: String,
        /// Those that are measured.
        servers: String,
    },
    /// A rate for what has none.
    #[error("--rate is for echo: add it to --scenario, or leave --rate out")]
    Rate,
    /// Not one round succeeded.
    #[error("no round of any server has a result; the first failure: {0}")]
    Nothing(String),
    /// The report can't be written.
    #[error(transparent)]
    Report(#[from] report::ReportError),
}

/// One question: a scenario with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Case {
    /// Which scenario.
    pub(crate) scenario: ScenarioName,
    /// How many connections.
    pub(crate) connections: u32,
    /// Messages in flight; 1 where that has no meaning.
    pub(crate) in_flight: u32,
    /// Messages per second, if they do not wait for answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
}

/// One server in one round; a failure is kept in the words of its error.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Round {
    /// It was measured.
    Measured(Box<Outcome>),
    /// It was not.
    Failed(String),
}

impl Round {
    /// The result, if there is one.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Measured(outcome) => Some(outcome),
            Self::Failed(_) => None,
        }
    }
}

/// All rounds of all servers for one case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseResult {
    /// The question.
    #[serde(flatten)]
    pub(crate) case: Case,
    /// One list of rounds per server, in the order of the servers.
    pub(crate) rounds: Vec<Vec<Round>>,
}

impl CaseResult {
    /// What the scenario counts.
    pub(crate) fn unit(&self) -> &'static str {
        match self.case.scenario {
            ScenarioName::Echo => "message",
            ScenarioName::Fanout => "delivery",
            ScenarioName::Idle | ScenarioName::Connect => "connection",
        }
    }

    /// A metric of one server, round by round.
    pub(crate) fn values(&self, server: usize, metric: Metric) -> Vec<Option<f64>> {
        self.rounds[server].iter().map(|round| metric.value(round.outcome()?)).collect()
    }
}

/// Everything that a comparison has found.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// The servers, in the order of their turns.
    pub(crate) servers: Vec<Server>,
    /// Which of them the others are divided by.
    pub(crate) base: usize,
    /// The cases, in the order in which they were measured.
    pub(crate) cases: Vec<CaseResult>,
}

impl Case {
    /// As a heading.
    pub(crate) fn title(&self, size: usize) -> String {
        let Self { connections, in_flight, .. } = self;
        match self.scenario {
            ScenarioName::Echo if let Some(rate) = self.rate => {
                format!("echo, {connections} connections, {size} B, {rate} messages/s")
            }
            ScenarioName::Echo if *in_flight == 1 => format!("echo, {connections} connections, {size} B"),
            ScenarioName::Echo => format!("echo, {connections} connections, {size} B, {in_flight} in flight each"),
            ScenarioName::Fanout => format!("fan-out to {connections} subscribers, {size} B, {in_flight} in flight"),
            ScenarioName::Idle => format!("idle, {connections} connections"),
            ScenarioName::Connect => format!("connect and close, {connections} connections, {in_flight} at a time"),
        }
    }

    /// In a few letters; no other case of a comparison has the same.
    pub(crate) fn label(&self) -> String {
        let Self { scenario, connections, in_flight, rate } = self;
        match rate {
            Some(rate) => format!("{scenario:?}-{connections}-{rate}-per-second"),
            None => format!("{scenario:?}-{connections}-{in_flight}"),
        }
    }

    fn mode(self) -> Mode {
        if self.scenario == ScenarioName::Fanout { Mode::Broadcast } else { Mode::Echo }
    }

    fn scenario(self, options: &CompareOptions, server: &RunningServer, channels: bool) -> Scenario {
        let mut client = options.client.clone();
        let server_cores = &options.server_core;
        client.client_core.get_or_insert_with(|| crate::cores::client_core(Some(server_cores)));
        let target = TargetOptions { url: format!("ws://{}/", server.address), server_pid: Some(server.pid()), client };
        let (connections, traffic) = (self.connections, options.traffic.clone());
        match self.scenario {
            ScenarioName::Echo => Scenario::Echo(EchoOptions {
                target,
                connections,
                traffic,
                pipeline: self.in_flight,
                channels,
                rate: self.rate,
                json: None,
            }),
            ScenarioName::Fanout => Scenario::Fanout(FanoutOptions {
                target,
                connections,
                traffic,
                in_flight: self.in_flight,
                publisher: Publisher::Separate,
                channels,
                compress: None,
                json: None,
            }),
            ScenarioName::Idle => Scenario::Idle(IdleOptions {
                target,
                connections,
                memory: MemoryOptions {
                    settle: options.settle,
                    patience: options.patience,
                    calibration: crate::cli::CALIBRATION_CONNECTIONS,
                },
                exchange: false,
                compress: None,
                json: None,
            }),
            ScenarioName::Connect => {
                Scenario::Connect(ConnectOptions { target, connections, concurrency: self.in_flight, json: None })
            }
        }
    }
}

/// Measures and reports.
///
/// # Errors
/// A server is missing, nothing could be measured, or the report can't be written.
pub(crate) fn run(options: &CompareOptions) -> Result<(), CompareError> {
    if !options.rate.is_empty() && !options.scenario.contains(&ScenarioName::Echo) {
        return Err(CompareError::Rate);
    }
    let servers = catalogue::choose(&options.servers, &options.extra, &options.places())?;
    let base = base(options.base.as_deref(), &servers)?;
    let cases = cases(options);
    let mut comparison = Comparison { servers, base, cases: Vec::with_capacity(cases.len()) };
    // Read before this thread is pinned.
    let environment = Environment::read();
    for case in cases {
        let result = measure(case, options, &comparison.servers);
        comparison.cases.push(result);
        let result = &comparison.cases[comparison.cases.len() - 1];
        print!("\n{}\n", report::table::text(&comparison, result, options.traffic.size));
    }
    let rounds = || comparison.cases.iter().flat_map(|case| case.rounds.iter().flatten());
    if !rounds().any(|round| round.outcome().is_some()) {
        let first = rounds().find_map(|round| match round {
            Round::Failed(error) => Some(error.clone()),
            Round::Measured(_) => None,
        });
        return Err(CompareError::Nothing(first.unwrap_or_default()));
    }
    if !options.no_report {
        let directory = options.output.clone().unwrap_or_else(|| {
            let machine = options.machine.clone().unwrap_or_else(|| environment.machine());
            PathBuf::from(format!("benches/results/{}-{machine}", environment.date()))
        });
        report::write(&directory, &environment, options, &comparison)?;
        println!("report: {}", directory.join("README.md").display());
    }
    Ok(())
}

fn base(name: Option<&str>, servers: &[Server]) -> Result<usize, CompareError> {
    let Some(name) = name else { return Ok(0) };
    servers.iter().position(|server| server.name == name).ok_or_else(|| CompareError::Base {
        base: name.to_owned(),
        servers: servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(","),
    })
}

/// Every scenario with every number of connections and of messages in flight.
fn cases(options: &CompareOptions) -> Vec<Case> {
    let mut cases = Vec::new();
    for &scenario in &options.scenario {
        let (connections, in_flight): (&[u32], &[u32]) = match scenario {
            ScenarioName::Echo => (&[64, 1000], &[1]),
            ScenarioName::Fanout => (&[500], &[1, 16]),
            ScenarioName::Idle => (&[15_000], &[1]),
            ScenarioName::Connect => (&[20_000], &[64]),
        };
        let connections = if options.connections.is_empty() { connections } else { &options.connections };
        let in_flight =
            if options.in_flight.is_empty() || scenario == ScenarioName::Idle { in_flight } else { &options.in_flight };
        for &connections in connections {
            if scenario == ScenarioName::Echo && !options.rate.is_empty() {
                let open_loop = |&rate| Case { scenario, connections, in_flight: 1, rate: Some(rate) };
                cases.extend(options.rate.iter().map(open_loop));
            } else {
                let closed_loop = |&in_flight| Case { scenario, connections, in_flight, rate: None };
                cases.extend(in_flight.iter().map(closed_loop));
            }
        }
    }
    cases
}

fn measure(case: Case, options: &CompareOptions, servers: &[Server]) -> CaseResult {
    println!("\n{}, {} rounds", case.title(options.traffic.size), options.rounds);
    let mut rounds = vec![Vec::new(); servers.len()];
    for number in 1..=options.rounds {
        for (server, results) in servers.iter().zip(&mut rounds) {
            let label = format!("{number}/{} {}", options.rounds, server.name);
            let round = match measure_once(case, options, server, &label) {
                Ok(outcome) => {
                    println!("{}", report::terminal::line(&label, &outcome));
                    Round::Measured(Box::new(outcome))
                }
                Err(error) => {
                    println!("{label}: {error}");
                    Round::Failed(error.to_string())
                }
            };
            results.push(round);
        }
    }
    CaseResult { case, rounds }
}

fn measure_once(
    case: Case,
    options: &CompareOptions,
    server: &Server,
    label: &str,
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let running = RunningServer::start(&server.name, &server.command, case.mode(), &options.server_core)?;
    let outcome: Result<Outcome, ScenarioError> =
        case.scenario(options, &running, server.channels).run(&Progress::new(label));
    Ok(outcome?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn options(arguments: &[&str]) -> CompareOptions {
        let cli = Cli::try_parse_from([&["crore-bench", "compare"], arguments].concat()).expect("accepted");
        let Command::Compare(options) = cli.command else { panic!("compare") };
        *options
    }

    #[test]
    fn cases_have_the_usual_numbers_unless_told_otherwise() {
        let numbers = |arguments: &[&str]| -> Vec<(u32, u32)> {
            cases(&options(arguments)).iter().map(|case| (case.connections, case.in_flight)).collect()
        };
        assert_eq!(numbers(&[]), [(64, 1), (1000, 1)]);
        assert_eq!(numbers(&["--scenario", "fanout,idle"]), [(500, 1), (500, 16), (15_000, 1)]);
        assert_eq!(numbers(&["--connections", "8,9", "--in-flight", "4"]), [(8, 4), (9, 4)]);
        assert!(matches!(run(&options(&["--scenario", "idle", "--rate", "500"])), Err(CompareError::Rate)));
        let rated = cases(&options(&["--scenario", "echo,fanout", "--connections", "8", "--rate", "500,1000"]));
        assert_eq!(rated.iter().map(|case| case.rate).collect::<Vec<_>>(), [Some(500.0), Some(1000.0), None, None]);
        let labels: Vec<_> = rated.iter().map(Case::label).collect();
        assert_eq!(labels, ["Echo-8-500-per-second", "Echo-8-1000-per-second", "Fanout-8-1", "Fanout-8-16"]);
        assert_eq!(rated[0].title(64), "echo, 8 connections, 64 B, 500 messages/s");
    }

    #[test]
    fn a_base_has_to_be_measured() {
        let servers = ["a", "b"].map(|name| Server { name: name.into(), command: String::new(), channels: false });
        assert_eq!(base(None, &servers).expect("the first"), 0);
        assert_eq!(base(Some("b"), &servers).expect("the second"), 1);
        assert!(base(Some("c"), &servers).expect_err("unknown").to_string().contains("add it to --servers (a,b)"));
    }
}
