//! What the webhook counts. Its label names an event, of which there are four, and nothing of who caused it.

use super::text::Text;
use crate::webhook::{ANSWER_US, Answer, EventReport, Report};

/// Where there is a webhook.
pub(super) fn write(text: &mut Text, report: &Report) {
    let answers = report.events.iter().flat_map(|event| {
        let labels =
            Answer::ALL.iter().map(|(_, outcome)| format!("{{event=\"{}\",outcome=\"{outcome}\"}}", event.name));
        labels.zip(event.answers)
    });
    let help = "Questions to the backend, by event and what has come of them.";
    text.family("crore_webhook_answers_total", "counter", help, answers);
    let help = "Circuit breakers: 0 closed, 1 half-open, 2 open.";
    let by_event = |value: fn(&EventReport) -> u64| {
        report.events.iter().map(move |event| (format!("{{event=\"{}\"}}", event.name), value(event)))
    };
    text.family("crore_webhook_breaker_state", "gauge", help, by_event(|event| event.breaker.into()));
    let help = "How often a circuit breaker has opened.";
    text.family("crore_webhook_breaker_opened_total", "counter", help, by_event(|event| event.opened));
    let help = "From a question that goes out to its answer, or to the end of the patience with it.";
    text.histogram("crore_webhook_answer_seconds", help, &ANSWER_US, 1_000_000, &report.answer_us);
    let help = "Questions to the backend that are out.";
    text.family("crore_webhook_in_flight", "gauge", help, by_event(|event| event.in_flight as u64));
    let help = "Questions that wait for their turn.";
    text.family("crore_webhook_waiting", "gauge", help, by_event(|event| event.waiting as u64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::webhook::Webhook;

    #[test]
    fn the_events_that_are_decided_elsewhere_are_shown() {
        let mut config = Config::default();
        config.webhook.rpc_url = Some("http://127.0.0.1:1/".to_owned());
        config.webhook.connect_url.clone_from(&config.webhook.rpc_url);
        let webhook = Webhook::open(&config).unwrap().unwrap();
        let mut text = Text::default();
        write(&mut text, &webhook.report());
        let text = text.finish();
        for line in [
            "crore_webhook_answers_total{event=\"connect\",outcome=\"result\"} 0",
            "crore_webhook_answers_total{event=\"rpc\",outcome=\"busy\"} 0",
            "crore_webhook_breaker_state{event=\"rpc\"} 0",
            "crore_webhook_breaker_opened_total{event=\"connect\"} 0",
            "crore_webhook_answer_seconds_count 0",
            "crore_webhook_in_flight{event=\"connect\"} 0",
            "crore_webhook_waiting{event=\"rpc\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("subscribe") && !text.contains("publish"), "{text}");
        assert!(Webhook::open(&Config::default()).unwrap().is_none());
    }
}
