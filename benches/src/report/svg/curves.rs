//! Latency by percentile, a curve for each server: nines on one axis, powers of ten on the other.

use super::{Anchor, Canvas, LETTER_WIDTH, Plot, colour, file_name, label};
use crate::compare::{CaseResult, Comparison, Spread};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 76.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = HEIGHT - 40.0;
const RIGHT: f64 = WIDTH - 24.0;

/// Percentiles on the axis.
const MARKS: [f64; 6] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99];

/// Nines: 90 % is one, 99 % two.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// The median over the rounds at each percentile that enough messages stand behind.
fn curve(case: &CaseResult, server: usize) -> Vec<(f64, f64)> {
    let latencies: Vec<_> = case.rounds[server]
        .iter()
        .filter_map(|round| Some(&round.outcome()?.latency))
        .filter(|latency| latency.count > 0)
        .collect();
    let Some(fewest) = latencies.iter().map(|latency| latency.count).min() else { return Vec::new() };
    let percentiles = latencies[0].curve.iter().enumerate();
    percentiles
        .filter(|(_, point)| nines(point[0]) <= nines(MARKS[5]) && fewest as f64 * (1.0 - point[0] / 100.0) >= 10.0)
        .filter_map(|(index, point)| {
            let rounds: Vec<_> = latencies.iter().map(|latency| latency.curve.get(index).map(|pair| pair[1])).collect();
            Some((point[0], Spread::of(&rounds)?.median))
        })
        .collect()
}

/// The plot of one case; `None` if it has no latencies.
pub(super) fn plot(comparison: &Comparison, case: &CaseResult, size: usize) -> Option<Plot> {
    let curves: Vec<Vec<(f64, f64)>> = (0..comparison.servers.len()).map(|server| curve(case, server)).collect();
    let values = || curves.iter().flatten().map(|point| point.1.max(0.1));
    let lowest = values().reduce(f64::min)?.log10().floor();
    let highest = values().reduce(f64::max)?.log10().ceil().max(lowest + 1.0);
    let x = |percentile: f64| LEFT + nines(percentile) / nines(MARKS[5]) * (RIGHT - LEFT);
    let y = |value: f64| BOTTOM - (value.max(0.1).log10() - lowest) / (highest - lowest) * (BOTTOM - TOP);

    let mut canvas = Canvas::new(WIDTH);
    let title = format!("latency by percentile, µs: {}", case.case.title(size));
    canvas.text(16.0, 28.0, Anchor::Start, "title", &title);
    for percentile in MARKS {
        canvas.line((x(percentile), TOP), (x(percentile), BOTTOM), "grid");
        let mark = if percentile == 0.0 { "min".to_owned() } else { format!("p{percentile}") };
        canvas.text(x(percentile), BOTTOM + 18.0, Anchor::Middle, "note", &mark);
    }
    let mut power = lowest;
    while power <= highest {
        let value = 10_f64.powf(power);
        canvas.line((LEFT, y(value)), (RIGHT, y(value)), "grid");
        canvas.text(LEFT - 8.0, y(value) + 4.0, Anchor::End, "note", &label(value));
        power += 1.0;
    }
    let mut legend = 16.0;
    for (index, (server, curve)) in comparison.servers.iter().zip(&curves).enumerate() {
        if curve.is_empty() {
            continue;
        }
        let points: Vec<_> = curve.iter().map(|&(percentile, value)| (x(percentile), y(value))).collect();
        canvas.curve(&points, colour(index));
        canvas.bar(legend, 44.0, 12.0, 12.0, colour(index));
        canvas.text(legend + 17.0, 54.0, Anchor::Start, "name", &server.name);
        legend += 17.0 + server.name.chars().count() as f64 * LETTER_WIDTH + 16.0;
    }
    let text = canvas.finish(HEIGHT, &title);
    Some(Plot { file: file_name(&[&case.case.label(), "latency"]), description: title, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_count_nines() {
        for (percentile, count) in [(0.0, 0.0), (90.0, 1.0), (99.0, 2.0), (99.99, 4.0)] {
            assert!((nines(percentile) - count).abs() < 1e-9, "{percentile}");
        }
    }
}
