//! Bars: a group for each case of a scenario, a bar for each server, its length the median, the line
//! over its end from the smallest to the largest round.

use super::{Anchor, Canvas, LETTER_WIDTH, Plot, colour, file_name, label, ticks};
use crate::cli::ScenarioName;
use crate::compare::{CaseResult, Comparison, Metric, Ratio, Spread};

const WIDTH: f64 = 760.0;
const BAR_HEIGHT: f64 = 18.0;
const ROW_HEIGHT: f64 = 24.0;
/// Room at the right for a value and its ratio.
const VALUE_WIDTH: f64 = 130.0;
const MARGIN: f64 = 16.0;

/// The plot of one metric in all cases of one scenario; `None` if nothing was measured.
pub(super) fn plot(comparison: &Comparison, scenario: ScenarioName, metric: Metric, size: usize) -> Option<Plot> {
    let cases: Vec<&CaseResult> = comparison.cases.iter().filter(|case| case.case.scenario == scenario).collect();
    let spread = |case: &CaseResult, server| Spread::of(&case.values(server, metric));
    let servers = 0..comparison.servers.len();
    let max = cases
        .iter()
        .flat_map(|case| servers.clone().filter_map(|server| spread(case, server)))
        .map(|spread| spread.max)
        .reduce(f64::max)?;
    let title = metric.title(cases.first()?.unit());
    let longest = comparison.servers.iter().map(|server| server.name.chars().count()).max().unwrap_or(0);
    let left = MARGIN + longest as f64 * LETTER_WIDTH + 10.0;
    let ticks = ticks(max);
    let scale = (WIDTH - left - VALUE_WIDTH) / ticks[ticks.len() - 1];

    let mut canvas = Canvas::new(WIDTH);
    let mut y = 28.0;
    canvas.text(MARGIN, y, Anchor::Start, "title", &title);
    for case in &cases {
        y += 30.0;
        canvas.text(MARGIN, y, Anchor::Start, "note", &case.case.title(size));
        y += 10.0;
        let bottom = y + ROW_HEIGHT * comparison.servers.len() as f64;
        for tick in &ticks {
            let x = left + tick * scale;
            canvas.line((x, y), (x, bottom), "grid");
            canvas.text(x, bottom + 14.0, Anchor::Middle, "note", &label(*tick));
        }
        for (index, server) in comparison.servers.iter().enumerate() {
            let middle = y + ROW_HEIGHT / 2.0;
            canvas.text(left - 8.0, middle + 4.0, Anchor::End, "name", &server.name);
            if let Some(spread) = spread(case, index) {
                let end = left + spread.median.max(0.0) * scale;
                canvas.bar(left, middle - BAR_HEIGHT / 2.0, end - left, BAR_HEIGHT, colour(index));
                let (low, high) = (left + spread.min.max(0.0) * scale, left + spread.max.max(0.0) * scale);
                canvas.line((low, middle), (high, middle), "range");
                let ratio = Ratio::of(&case.values(index, metric), &case.values(comparison.base, metric));
                let ratio = ratio.filter(|_| index != comparison.base);
                let ratio = ratio.map_or(String::new(), |ratio| format!("  × {:.2}", ratio.of_medians));
                let label = format!("{}{ratio}", Metric::format(spread.median));
                canvas.text(high.max(end) + 8.0, middle + 4.0, Anchor::Start, "value", &label);
            } else {
                canvas.text(left + 8.0, middle + 4.0, Anchor::Start, "note", "no result");
            }
            y += ROW_HEIGHT;
        }
        y += 18.0;
    }
    let scenario = format!("{scenario:?}");
    let description =
        format!("{title}, {}", cases.iter().map(|case| case.case.title(size)).collect::<Vec<_>>().join("; "));
    let text = canvas.finish(y + MARGIN, &description);
    Some(Plot { file: file_name(&[&scenario, &format!("{metric:?}")]), description, text })
}
