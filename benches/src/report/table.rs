//! The table of a case: a row for each server, with medians, spreads and ratios.

use std::fmt::Write;

use crate::compare::{CaseResult, Comparison, Metric, Ratio, Round, Spread};

/// Cells of a case: the head, then a row per server.
fn cells(comparison: &Comparison, result: &CaseResult) -> Vec<Vec<String>> {
    let metrics: Vec<Metric> = Metric::of(result.case.scenario)
        .iter()
        .copied()
        .filter(|&metric| {
            (0..comparison.servers.len()).any(|server| Spread::of(&result.values(server, metric)).is_some())
        })
        .collect();
    let mut head = vec!["server".to_owned()];
    for (index, metric) in metrics.iter().enumerate() {
        head.push(metric.title(result.unit()));
        if metric.is_compared() {
            head.push(if index == 0 {
                format!("× {}", comparison.servers[comparison.base].name)
            } else {
                "×".into()
            });
        }
    }
    let mut rows = vec![head];
    for (index, server) in comparison.servers.iter().enumerate() {
        let mut row = vec![server.name.clone()];
        for (position, &metric) in metrics.iter().enumerate() {
            let values = result.values(index, metric);
            let spread = Spread::of(&values);
            row.push(spread.map_or("–".into(), |spread| cell(spread, position == 0)));
            if metric.is_compared() {
                let ratio = Ratio::of(&values, &result.values(comparison.base, metric));
                row.push(ratio.map_or("–".into(), |ratio| format!("{:.2}", ratio.of_medians)));
            }
        }
        rows.push(row);
    }
    rows
}

/// The median, and for the figure that matters most its ends.
fn cell(spread: Spread, with_ends: bool) -> String {
    let Spread { median, min, max } = spread;
    if with_ends && min < max {
        format!("{} ({}–{})", Metric::format(median), Metric::format(min), Metric::format(max))
    } else {
        Metric::format(median)
    }
}

/// For a terminal: columns in line.
pub(crate) fn text(comparison: &Comparison, result: &CaseResult, size: usize) -> String {
    let rows = cells(comparison, result);
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = format!("{}: medians of {} rounds\n", result.case.title(size), result.rounds[0].len());
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&failures(comparison, result, "  "));
    text
}

/// For a Markdown page.
pub(crate) fn markdown(comparison: &Comparison, result: &CaseResult) -> String {
    let rows = cells(comparison, result);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|---|{}", "--:|".repeat(row.len() - 1));
        }
    }
    let failures = failures(comparison, result, "- ");
    if !failures.is_empty() {
        let _ = write!(text, "\nRounds without a result:\n\n{failures}");
    }
    text
}

fn failures(comparison: &Comparison, result: &CaseResult, indent: &str) -> String {
    let mut text = String::new();
    for (server, rounds) in comparison.servers.iter().zip(&result.rounds) {
        for (index, round) in rounds.iter().enumerate() {
            if let Round::Failed(error) = round {
                let _ = writeln!(text, "{indent}{} in round {}: {error}", server.name, index + 1);
            }
        }
    }
    text
}
