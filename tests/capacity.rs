//! The sums of `tuning/CAPACITY.md` are sums, and what it takes from the engine is what the engine has.
//!
//! A table is checked if its second column is `bytes` or `µs`: what one costs. Then come how many there are, for each of
//! [`SIZES`], and what that makes, in GB, in seconds or in cores; a table without the numbers means the connections
//! themselves. A line `**sum**` adds up the table, `**all of it**` every table of bytes so far that has a sum.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crore_engine::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, SOCKETS_SPARE, UNSENT_BYTES_MAX};
use crore_engine::uring::DescriptorKind;
use crore_engine::{Limits, Stats};

/// Connections of the three columns.
const SIZES: [f64; 3] = [1e6, 5e6, 1e7];

/// What ten million idle connections may take, in GB.
const GOAL_GB: f64 = 45.0;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of a line of a table, without what makes them bold.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inside = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inside.split('|').map(|cell| cell.trim().trim_matches('*')).collect())
}

/// A number as it is written, and by how much its last digit may be off.
fn number(cell: &str) -> Option<(f64, f64)> {
    let decimals = cell.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let value = cell.replace(',', "").parse().ok()?;
    Some((value, 0.5 * 10_f64.powi(-i32::try_from(decimals).ok()?) + 1e-9))
}

fn numbers(cells: &[&str], line: &str) -> [(f64, f64); 3] {
    let read: Vec<_> = cells.iter().map(|cell| number(cell).unwrap_or_else(|| panic!("no number: {line}"))).collect();
    read.try_into().unwrap_or_else(|_| panic!("not three numbers: {line}"))
}

fn assert_are(written: [(f64, f64); 3], exact: [f64; 3], line: &str) {
    for ((value, tolerance), exact) in written.into_iter().zip(exact) {
        assert!((value - exact).abs() <= tolerance, "{value} should be {exact}: {line}");
    }
}

fn add(sum: &mut [f64; 3], more: [f64; 3]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

/// What the page's tables add up to.
#[derive(Default)]
struct Sums {
    lines: usize,
    table: [f64; 3],
    table_units: f64,
    all: [f64; 3],
}

impl Sums {
    /// Checks a line of a table whose units are `divisor` to one of the sum.
    fn check(&mut self, cells: &[&str], divisor: f64, line: &str) {
        let results = numbers(&cells[cells.len() - 4..cells.len() - 1], line);
        match cells[0] {
            "sum" => {
                assert_are(results, self.table, line);
                if let Some((units, tolerance)) = number(cells[1]) {
                    assert!((units - self.table_units).abs() <= tolerance, "{} units: {line}", self.table_units);
                }
                if divisor > 1e6 {
                    add(&mut self.all, self.table);
                }
            }
            "all of it" => {
                assert_are(results, self.all, line);
                assert!(results[2].0 <= GOAL_GB, "{line}");
            }
            _ => {
                let (unit, _) = number(cells[1]).unwrap_or_else(|| panic!("no number: {line}"));
                let counts = if cells.len() > 6 { numbers(&cells[2..5], line).map(|(count, _)| count) } else { SIZES };
                let exact = counts.map(|count| unit * count / divisor);
                assert_are(results, exact, line);
                add(&mut self.table, exact);
                self.table_units += unit;
                self.lines += 1;
            }
        }
    }
}

#[test]
fn every_line_is_the_unit_times_the_number_and_every_sum_a_sum() {
    let page = read("tuning/CAPACITY.md");
    let mut sums = Sums::default();
    let mut divisor = None;
    for line in page.lines() {
        let Some(cells) = cells(line) else {
            divisor = None;
            continue;
        };
        match (divisor, cells.get(1).copied()) {
            (_, Some("bytes" | "µs")) => {
                divisor = Some(if cells[1] == "bytes" { 1e9 } else { 1e6 });
                (sums.table, sums.table_units) = ([0.0; 3], 0.0);
            }
            (Some(divisor), Some(cell)) if !cell.starts_with("--") => sums.check(&cells, divisor, line),
            _ => {}
        }
    }
    assert!(sums.lines > 25 && sums.all[2] > 40.0, "the test is not blind: {} lines", sums.lines);
}

#[test]
fn what_the_page_takes_from_elsewhere_is_there() {
    let page = read("tuning/CAPACITY.md");
    let limits = Limits::default();
    let per_ring = u32::try_from(DescriptorKind::direct_connections_max()).expect("at most 2^20");
    let workers: Vec<String> = SIZES.iter().map(|size| (size / f64::from(per_ring)).ceil().to_string()).collect();
    for text in [
        format!("| workers that the descriptors force | {} |", workers.join(" | ")),
        format!("N / (2^20 − {SOCKETS_SPARE})"),
        format!("| {} |", thousands(UNSENT_BYTES_MAX as usize)),
        format!("| {} |", thousands(limits.outbox_bytes_max)),
        format!("cores × {} MiB", (usize::from(RECEIVE_BUFFERS) * RECEIVE_BUFFER_BYTES) >> 20),
        format!("The default interval of {} s", limits.ping_interval.as_secs()),
    ] {
        assert!(page.contains(&text), "the page does not say: {text}");
    }
    let idle = read("benches/results/2026-11-21-xeon-2-cores-idle/README.md");
    let crore = idle.lines().find(|line| line.starts_with("| crore | 64.6")).expect("the line of the idle report");
    assert!(crore.contains("| 3,990 |") && page.contains("3,990 bytes of [A]"), "{crore}");
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|it| str::from_utf8(it).ok()).collect();
    groups.join(",")
}

#[test]
fn every_metric_on_the_page_is_one_of_the_servers() {
    let page = read("tuning/CAPACITY.md");
    let known: BTreeSet<&str> = Stats::default().entries().map(|(name, _, _)| name).collect();
    let named = page.split('`').skip(1).step_by(2).filter_map(|word| word.strip_prefix("crore_"));
    let mut count = 0;
    for name in named {
        let name = name.trim_end_matches("_total");
        assert!(known.contains(name) || name == "connection_memory_bytes{class}", "crore_{name} is no metric");
        count += 1;
    }
    assert!(count > 10, "the test is not blind: {count} metrics");
}
