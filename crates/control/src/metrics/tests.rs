//! The exposition, as a scraper reads it.

use std::collections::BTreeSet;

use super::*;
use crate::alarms::tests::{facts, site};
use crate::alarms::{AlarmLimits, judge};

fn metrics(sites: usize, site_series_max: u64) -> Metrics {
    let mut facts = facts((0..sites).map(|number| site(&format!("site \"{number}\"\\"))).collect(), Vec::new());
    if let Some(first) = facts.sites.first_mut() {
        first.restorable_till = None;
    }
    let alarms: Vec<AlarmNote> =
        judge(&facts, &AlarmLimits::default()).iter().map(|alarm| alarm.note(facts.at)).collect();
    let health = NotifierHealth { name: "ops".into(), sent: 3, failed: 1, failing: None };
    let options = MetricsOptions { site_series_max };
    Metrics::of(&facts, &alarms, &[health], (options, Duration::from_millis(1_500)))
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

// Explains invariant: bounded-labels
#[test]
fn no_site_has_a_series_of_its_own_unless_so_many_are_allowed() {
    let text = |sites, most| metrics(sites, most).text(Exposition::Prometheus);
    assert_eq!(series(&text(2, 0)), series(&text(5_000, 0)), "as many for a large fleet as for a small one");
    assert!(!text(3, 0).contains("site=\""));
    assert_eq!(text(3, 3).matches("lifeboat_site_alarms{site=\"").count(), 3);
    assert_eq!(series(&text(4, 3)), series(&text(4, 0)), "a fleet that is larger has none");
}

#[test]
fn both_formats_are_as_their_readers_want_them() {
    let metrics = metrics(2, 10);
    let text = metrics.text(Exposition::Prometheus);
    for line in [
        "# TYPE lifeboat_notifications_total counter",
        "lifeboat_notifications_total{notifier=\"ops\",outcome=\"sent\"} 3",
        "# TYPE lifeboat_cycle_duration_seconds gauge",
        "lifeboat_cycle_duration_seconds 1.5",
        "lifeboat_cycle_timestamp_seconds 8640000",
        "lifeboat_alarms{kind=\"point_overdue\",severity=\"critical\"} 1",
        "lifeboat_alarms{kind=\"site_vanished\",severity=\"critical\"} 0",
        "lifeboat_sites{policy=\"default\",state=\"breached\"} 1",
        "lifeboat_site_alarms{site=\"site \\\"0\\\"\\\\\",policy=\"default\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    let open = metrics.text(Exposition::OpenMetrics);
    assert!(open.ends_with("# EOF\n"));
    assert!(open.contains("# TYPE lifeboat_notifications counter\nlifeboat_notifications_total{"), "{open}");
    assert_eq!(series(&text), series(&open));
    for text in [text, open] {
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let once: BTreeSet<&&str> = types.iter().collect();
        assert_eq!(types.len(), once.len(), "a family is told once");
    }
    assert_eq!(Exposition::accepted_by("application/openmetrics-text;version=1.0.0"), Exposition::OpenMetrics);
    assert_eq!(Exposition::accepted_by("text/plain"), Exposition::Prometheus);
}

#[test]
fn names_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for Family { name, kind, help } in FAMILIES {
        assert!(names.insert(*name), "{name} twice");
        assert!(name.starts_with("lifeboat_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == FamilyKind::Counter, "{name}");
        assert!(name.chars().all(|char| char.is_ascii_lowercase() || char == '_'), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        for wrong in ["_ms", "_millis", "_minutes", "_hours", "_days", "_kib", "_mib", "_gib", "_percent"] {
            assert!(!name.ends_with(wrong), "{name}: base units");
        }
    }
}

#[test]
fn of_sites_that_nobody_could_look_at_there_is_no_zero() {
    let away = crate::alarms::Trouble { reason: "no answer".into(), hint: None };
    let facts = Facts::without_store(Timestamp(1), away);
    let text = Metrics::of(&facts, &[], &[], (MetricsOptions::default(), Duration::ZERO)).text(Exposition::Prometheus);
    assert!(text.contains("lifeboat_store_up 0\n") && !text.contains("lifeboat_sites"), "{text}");
}
