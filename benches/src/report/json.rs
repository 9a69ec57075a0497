//! Reports for programs: everything that was measured, with the environment and the parameters.

use std::path::Path;

use serde::Serialize;

use super::{ReportError, write_file};
use crate::cli::CompareOptions;
use crate::compare::{CaseResult, Comparison, Metric, Ratio, Server, Spread};
use crate::environment::Environment;
use crate::scenario::{Outcome, Scenario};

/// Goes up when a field changes its meaning or goes.
const FORMAT: u32 = 1;

/// One scenario.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport<'run> {
    format: u32,
    environment: &'run Environment,
    parameters: &'run Scenario,
    result: &'run Outcome,
}

impl<'run> RunReport<'run> {
    /// Puts it together.
    pub(crate) fn new(environment: &'run Environment, parameters: &'run Scenario, result: &'run Outcome) -> Self {
        Self { format: FORMAT, environment, parameters, result }
    }
}

/// A comparison.
#[derive(Debug, Serialize)]
pub(crate) struct CompareReport<'run> {
    format: u32,
    environment: &'run Environment,
    parameters: &'run CompareOptions,
    servers: &'run [Server],
    base: &'run str,
    summary: Vec<SummaryRow<'run>>,
    /// Every round of every server.
    cases: &'run [CaseResult],
}

/// One metric of one server in one case.
#[derive(Debug, Serialize)]
struct SummaryRow<'run> {
    case: String,
    server: &'run str,
    metric: String,
    rounds: Spread,
    by_base: Option<Ratio>,
}

impl<'run> CompareReport<'run> {
    /// Puts it together.
    pub(crate) fn new(
        environment: &'run Environment,
        parameters: &'run CompareOptions,
        comparison: &'run Comparison,
    ) -> Self {
        let mut summary = Vec::new();
        for case in &comparison.cases {
            for (index, server) in comparison.servers.iter().enumerate() {
                for &metric in Metric::of(case.case.scenario) {
                    let values = case.values(index, metric);
                    let Some(rounds) = Spread::of(&values) else { continue };
                    let base = case.values(comparison.base, metric);
                    summary.push(SummaryRow {
                        case: case.case.title(parameters.traffic.size),
                        server: &server.name,
                        metric: metric.title(case.unit()),
                        rounds,
                        by_base: metric.is_compared().then(|| Ratio::of(&values, &base)).flatten(),
                    });
                }
            }
        }
        let base = &comparison.servers[comparison.base].name;
        Self {
            format: FORMAT,
            environment,
            parameters,
            servers: &comparison.servers,
            base,
            summary,
            cases: &comparison.cases,
        }
    }
}

/// Writes a report.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write(path: &Path, report: &impl Serialize) -> Result<(), ReportError> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| ReportError { path: path.into(), source: error.into() })?;
    write_file(path, &(text + "\n"))
}
