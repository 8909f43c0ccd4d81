//! What Prometheus is told: one set of samples a cycle, in its text format or in OpenMetrics.
//!
//! ```text
//! facts, alarms, how telling goes ──▶ [`Metrics`] ──▶ text
//! ```
//!
//! Labels are bounded by the configuration: policies, sources, notifiers, and the kinds of alarms. A site's id is the name of
//! somebody's customer, and stands in no label unless the operator allows so many series; a fleet that is larger has none, so
//! that a server of metrics is not brought down by the ten-thousandth customer.
//!
//! Names follow the conventions of Prometheus: base units, `_total` for what only grows, times as Unix seconds, from which
//! `time() - x` makes an age that does not stop when the cycles do.
//!
//! Invariant (bounded-labels): the number of series does not grow with the fleet beyond what was allowed.
//!
//! What is not here: HTTP (`serve`).

mod families;
mod fleet;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use lifeboat_model::Timestamp;

use crate::alarms::{AlarmKind, AlarmNote, Facts, NotifierHealth};

pub use families::{FAMILIES, Family, FamilyKind};

/// What is shown of each site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricsOptions {
    /// Sites have series of their own as long as there are no more of them; 0: never.
    pub site_series_max: u64,
}

/// In which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What the client reads best, by its `accept` header.
    pub fn accepted_by(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// The samples of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// By the family's name.
    samples: BTreeMap<&'static str, Vec<(Labels, f64)>>,
}

/// A moment as Prometheus counts it.
fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1e6
}

impl Metrics {
    /// `took`: how long gathering and telling took.
    pub fn of(
        facts: &Facts,
        alarms: &[AlarmNote],
        notifiers: &[NotifierHealth],
        (options, took): (MetricsOptions, Duration),
    ) -> Self {
        let mut metrics = Self::default();
        metrics.add(&families::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        metrics.add(&families::CYCLE_AT, &[], seconds(facts.at));
        metrics.add(&families::CYCLE_TOOK, &[], took.as_secs_f64());
        metrics.add(&families::STORE_UP, &[], f64::from(u8::from(facts.repository.failure.is_none())));
        if let Some(verified) = facts.repository.recovery_key_verified {
            metrics.add(&families::RECOVERY_KEY, &[], f64::from(u8::from(verified)));
        }
        metrics.add_alarms(alarms);
        for disk in &facts.disks {
            let place = [("place", disk.place.as_str())];
            metrics.add(&families::DISK_FREE, &place, disk.free_bytes as f64);
            metrics.add(&families::DISK_SIZE, &place, disk.size_bytes as f64);
        }
        for health in notifiers {
            let name = health.name.as_str();
            for (outcome, count) in [("sent", health.sent), ("failed", health.failed)] {
                metrics.add(&families::NOTIFICATIONS, &[("notifier", name), ("outcome", outcome)], count as f64);
            }
            let is_up = health.failing.is_none();
            metrics.add(&families::NOTIFIER_UP, &[("notifier", name)], f64::from(u8::from(is_up)));
        }
        fleet::add(facts, alarms, options, &mut metrics);
        metrics
    }

    /// Every kind has a series, so that one that never fired can be told from one that is not watched.
    fn add_alarms(&mut self, alarms: &[AlarmNote]) {
        for kind in AlarmKind::ALL {
            for severity in kind.severities() {
                let firing = alarms.iter().filter(|alarm| alarm.kind == *kind && alarm.severity == *severity).count();
                let labels = [("kind", kind.as_str()), ("severity", severity.as_str())];
                self.add(&families::ALARMS, &labels, firing as f64);
            }
        }
    }

    fn add(&mut self, family: &Family, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.entry(family.name).or_default().push((labels, value));
    }

    /// Lines of a whole exposition.
    pub fn text(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        for family in FAMILIES {
            let Some(samples) = self.samples.get(family.name) else { continue };
            // OpenMetrics names the family of a counter without what its samples end with.
            let name = match exposition {
                Exposition::OpenMetrics => family.name.strip_suffix("_total").unwrap_or(family.name),
                Exposition::Prometheus => family.name,
            };
            let kind = family.kind.as_str();
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, value) in samples {
                let labels: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(text, "{}{labels} {value}", family.name);
            }
        }
        if exposition == Exposition::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

/// A label's value: backslash, quote and line feed are escaped, in both formats.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
