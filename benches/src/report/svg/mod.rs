//! Plots, written by hand: text that a reader can select, colours that follow a dark page.

mod bars;
mod curves;

use std::fmt::Write;

use crate::cli::ScenarioName;
use crate::compare::{Comparison, Metric};

/// A plot with the name of its file.
pub(crate) struct Plot {
    /// File name within the report's directory.
    pub(crate) file: String,
    /// What it shows, for readers who don't see it.
    pub(crate) description: String,
    /// The SVG.
    pub(crate) text: String,
}

/// All plots of a comparison: bars of the main figures of each scenario, and latency curves of each case.
pub(crate) fn plots(comparison: &Comparison, size: usize) -> Vec<Plot> {
    let mut plots = Vec::new();
    for scenario in [ScenarioName::Echo, ScenarioName::Fanout, ScenarioName::Idle, ScenarioName::Connect] {
        for &metric in Metric::plotted(scenario) {
            plots.extend(bars::plot(comparison, scenario, metric, size));
        }
    }
    plots.extend(comparison.cases.iter().filter_map(|case| curves::plot(comparison, case, size)));
    plots
}

/// Colours that people with any colour vision can tell apart, after Okabe and Ito; the two that are
/// too light or too dark for one of the backgrounds are changed.
const COLOURS: [&str; 8] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7f00", "#7f7f7f"];

fn colour(server: usize) -> &'static str {
    COLOURS[server % COLOURS.len()]
}

/// Pixels of a letter on average, in the font size of the plots.
const LETTER_WIDTH: f64 = 6.6;

/// An SVG that grows from top to bottom.
struct Canvas {
    width: f64,
    body: String,
}

/// How a text stands at its point.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    fn new(width: f64) -> Self {
        Self { width, body: String::new() }
    }

    fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ =
            writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#);
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(self.body, r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#);
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{colour}"/>"#
        );
    }

    fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        let _ = writeln!(
            self.body,
            r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>"#
        );
    }

    fn finish(self, height: f64, description: &str) -> String {
        let Self { width, body } = self;
        let description = escape(description);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img">
<title>{description}</title>
<style>
text {{ font: 12px system-ui, sans-serif; fill: #24292f; }}
.title {{ font-size: 15px; font-weight: 600; }}
.note {{ fill: #57606a; }}
.grid {{ stroke: #d0d7de; stroke-width: 1; }}
.range {{ stroke: #24292f; stroke-width: 1.5; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3; }}
.note {{ fill: #9198a1; }}
.grid {{ stroke: #3d444d; }}
.range {{ stroke: #e6edf3; }}
}}
</style>
{body}</svg>
"#
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Round numbers from zero to just above `max`, four to eight of them.
fn ticks(max: f64) -> Vec<f64> {
    if max.is_nan() || max <= 0.0 {
        return vec![0.0, 1.0];
    }
    let rough = max / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let mut ticks = vec![0.0];
    while ticks[ticks.len() - 1] < max {
        ticks.push(step * ticks.len() as f64);
    }
    ticks
}

/// A round number without the zeros that say nothing.
fn label(tick: f64) -> String {
    let text = Metric::format(tick);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A file name: lower case letters, digits and hyphens.
fn file_name(parts: &[&str]) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' };
    format!("{}.svg", parts.join("-").chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_above_the_largest_value() {
        assert_eq!(ticks(9.3), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(5.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        for max in [0.004, 0.33, 1.0, 7.7, 42.0, 123_456.0] {
            let ticks = ticks(max);
            assert!((4..=8).contains(&ticks.len()) && ticks[ticks.len() - 1] >= max, "{max}: {ticks:?}");
        }
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        assert_eq!(ticks(0.31).iter().map(|tick| label(*tick)).collect::<Vec<_>>(), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!([label(10.0), label(200_000.0)], ["10", "200,000"]);
    }

    #[test]
    fn text_can_be_anything() {
        let mut canvas = Canvas::new(100.0);
        canvas.text(1.0, 2.0, Anchor::Start, "note", "a<b> & \"c\"");
        let text = canvas.finish(50.0, "x < y");
        assert!(text.contains("a&lt;b&gt; &amp; &quot;c&quot;") && text.contains("x &lt; y"), "{text}");
    }
}
