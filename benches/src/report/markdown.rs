//! The page of a comparison: what was asked, what came out, and all that is needed to repeat it.

use std::fmt::Write;

use super::svg::Plot;
use super::table;
use crate::cli::{CompareOptions, ScenarioName};
use crate::compare::Comparison;
use crate::environment::Environment;

/// The whole page.
pub(crate) fn page(
    environment: &Environment,
    options: &CompareOptions,
    comparison: &Comparison,
    plots: &[Plot],
) -> String {
    let mut text = String::new();
    let scenarios: Vec<String> =
        options.scenario.iter().map(|scenario| format!("{scenario:?}").to_lowercase()).collect();
    let _ = writeln!(text, "# {} on {}, {}\n", scenarios.join(", "), environment.processor, environment.date());
    let base = &comparison.servers[comparison.base].name;
    let _ = writeln!(
        text,
        "Medians of {} interleaved rounds (smallest–largest in parentheses); × is the ratio to {base}. Every server is \
         started anew for every round, pinned to core {}, and loaded by the same client on another core. Server CPU is all \
         time of the process on a CPU, in user space and in the kernel, the receive softirq that runs on top of it included. \
         `client batch` is how many receives the client found per turn: where it is above 20 and the client busier than the \
         server, the client was the bottleneck of the throughput.\n\n",
        options.rounds, options.server_core
    );
    for case in &comparison.cases {
        let _ = writeln!(text, "## {}\n\n{}", case.case.title(options.traffic.size), table::markdown(comparison, case));
    }
    if !plots.is_empty() {
        text.push_str("## Plots\n\n");
    }
    for plot in plots {
        let _ = writeln!(text, "![{}]({})\n", plot.description.replace(['[', ']'], ""), plot.file);
    }
    if options.scenario.contains(&ScenarioName::Idle) {
        text.push_str(IDLE_METHOD);
    }
    text.push_str(&reproduction(environment, comparison));
    text
}

const IDLE_METHOD: &str = "\
## How idle memory was measured

User memory is the growth of the server's resident set (`/proc/PID/smaps_rollup`) from before the first connection, by
connection; the second half alone leaves out what a server allocates once. Kernel memory is the growth of the slab caches
that sockets and io_uring use (`/proc/slabinfo`, objects). On loopback it is that of both ends; the client's share was measured
on connections whose two ends are both the client's, and subtracted cache by cache. `results.json` has every cache.

";

fn reproduction(environment: &Environment, comparison: &Comparison) -> String {
    let mut text = place(environment);
    text.push_str("\nServers, in the order of their turns:\n\n");
    for server in &comparison.servers {
        let _ = writeln!(text, "- {}: `{}`", server.name, server.command);
    }
    text.push_str(&settings(environment));
    text
}

/// When and where something was measured, and by which command.
pub(super) fn place(environment: &Environment) -> String {
    let mut text = String::from("## Where and how\n\n");
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {value}");
    };
    row("time", &environment.time);
    row("command", &format!("`{}`", environment.command));
    row("kernel", &environment.kernel);
    let virtual_machine = if environment.virtual_machine { ", a virtual machine" } else { "" };
    row(
        "machine",
        &format!(
            "{} × {}, {:.1} GiB of memory{virtual_machine}",
            environment.processors,
            environment.processor,
            environment.memory_bytes as f64 / (1_u64 << 30) as f64
        ),
    );
    row("descriptor limit", &environment.descriptor_limit.to_string());
    row("harness", &format!("crore-bench {}", environment.crore_bench));
    text
}

/// Settings of the kernel that change the figures.
pub(super) fn settings(environment: &Environment) -> String {
    let mut text = String::from("\nSettings of the kernel:\n\n| setting | value |\n|---|---|\n");
    for (path, value) in &environment.knobs {
        let _ = writeln!(text, "| `{path}` | {value} |");
    }
    for (name, value) in &environment.mitigations {
        let _ = writeln!(text, "| mitigation `{name}` | {value} |");
    }
    text
}
