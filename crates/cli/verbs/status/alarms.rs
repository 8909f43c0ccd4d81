//! Alarms as people read them: those of one kind together, the worst first, and what to do about them.

use lifeboat_control::alarms::{AlarmNote, Severity};
use lifeboat_control::watch::Cycle;
use lifeboat_model::Timestamp;
use serde_json::{Value, json};

use crate::output::{Output, ago, and_more, count};

/// Alarms of one kind that people are shown; JSON has them all.
const SHOWN_MAX: usize = 10;

/// How many there are of each severity.
pub fn counts(alarms: &[AlarmNote]) -> Value {
    let of = |severity: Severity| alarms.iter().filter(|alarm| alarm.severity == severity).count();
    json!({ "critical": of(Severity::Critical), "warning": of(Severity::Warning), "notice": of(Severity::Notice) })
}

pub fn tell(alarms: &[AlarmNote], now: Timestamp, output: &Output) {
    alarms.iter().for_each(|alarm| output.event("alarm", alarm));
    for group in alarms.chunk_by(|a, b| (a.severity, a.kind) == (b.severity, b.kind)) {
        let Some(first) = group.first() else { continue };
        output.line("");
        let title = first.kind.title();
        output.line(match group.len() {
            1 => format!("{}: {title}", first.severity.as_str().to_uppercase()),
            many => format!("{}: {title} ({})", first.severity.as_str().to_uppercase(), count(many as u64)),
        });
        for alarm in group.iter().take(SHOWN_MAX) {
            output.line(format!("  {}{}{}", of(alarm), alarm.text, since(alarm, now)));
        }
        if let Some(more) = and_more(group.len(), SHOWN_MAX) {
            output.line(format!("  {more}"));
        }
        output.line(format!("  do first: {}", first.hint));
    }
}

fn of(alarm: &AlarmNote) -> String {
    let of = [alarm.site.as_deref(), alarm.source.as_deref(), alarm.name.as_deref()];
    match of.into_iter().flatten().collect::<Vec<_>>().join("/").as_str() {
        "" => String::new(),
        of => format!("{of}: "),
    }
}

/// What has just begun needs no age.
fn since(alarm: &AlarmNote, now: Timestamp) -> String {
    let since = Timestamp::parse(&alarm.since).ok().filter(|since| *since < now);
    since.map(|since| format!(" (since {})", ago(since, now))).unwrap_or_default()
}

/// Who was told, and who could not be.
pub fn tell_deliveries(cycle: &Cycle, output: &Output) {
    for delivery in &cycle.deliveries {
        let round = &delivery.round;
        output.event(
            "notification",
            json!({
                "notifier": delivery.notifier,
                "began": round.began.len(),
                "repeated": round.repeated.len(),
                "resolved": round.resolved.len(),
                "sent": delivery.outcome.is_ok(),
                "reason": delivery.outcome.as_ref().err(),
            }),
        );
        output.say(match &delivery.outcome {
            Ok(()) => format!(
                "{} was told: {} began, {} go on, {} are over.",
                delivery.notifier,
                round.began.len(),
                round.repeated.len(),
                round.resolved.len()
            ),
            Err(reason) => format!("{} could not be told: {reason}", delivery.notifier),
        });
    }
    if let Some(ping) = &cycle.ping {
        output.event("ping", json!({ "sent": ping.is_ok(), "reason": ping.as_ref().err() }));
        if let Err(reason) = ping {
            output.say(format!("the ping did not arrive: {reason}"));
        }
    }
}
