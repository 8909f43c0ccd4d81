//! Samples of sites and sources.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_model::Timestamp;

use super::{Metrics, MetricsOptions, families, seconds};
use crate::SiteSummary;
use crate::alarms::{AlarmNote, Facts, Listed, SiteFacts, SlotState, SourceFacts};

pub(super) fn add(facts: &Facts, alarms: &[AlarmNote], options: MetricsOptions, metrics: &mut Metrics) {
    facts.sources.iter().for_each(|source| of_source(source, metrics));
    // Of sites that nobody could look at, zeros would be a lie.
    if facts.assessed == crate::alarms::Assessed::HostOnly {
        return;
    }
    let mut breached: BTreeMap<&str, u64> = BTreeMap::new();
    for alarm in alarms.iter().filter(|alarm| alarm.severity.is_breach()) {
        if let Some(site) = &alarm.site {
            *breached.entry(site).or_default() += 1;
        }
    }
    let policies: BTreeSet<&str> = facts.sites.iter().map(|site| site.policy.as_str()).collect();
    for policy in policies {
        let sites: Vec<&SiteFacts> = facts.sites.iter().filter(|site| site.policy == policy).collect();
        of_policy(policy, &sites, &breached, metrics);
    }
    of_points(facts, metrics);
    if facts.sites.len() as u64 <= options.site_series_max {
        facts.sites.iter().for_each(|site| of_site(site, &breached, metrics));
    }
}

fn of_source(facts: &SourceFacts, metrics: &mut Metrics) {
    let source = [("source", facts.source.as_str())];
    let is_up = facts.failure.is_none() && facts.capture.as_ref().is_none_or(|capture| capture.unreachable.is_none());
    metrics.add(&families::SOURCE_UP, &source, f64::from(u8::from(is_up)));
    if let Some(capture) = &facts.capture {
        if let Some(till) = capture.complete_till() {
            metrics.add(&families::CAPTURED_TILL, &source, seconds(till));
        }
        if let Some(slot) = &capture.slot {
            metrics.add(&families::SLOT_KEPT, &source, slot.kept_bytes as f64);
            metrics.add(&families::SLOT_LIMIT, &source, slot.limit_bytes as f64);
            let is_lost = matches!(slot.state, SlotState::Lost(_));
            metrics.add(&families::SLOT_LOST, &source, f64::from(u8::from(is_lost)));
        }
        if let Some(unrouted) = capture.unrouted {
            metrics.add(&families::UNROUTED, &source, unrouted as f64);
        }
        let spilled = capture.only_here.as_ref().map_or(0, |(_, bytes)| *bytes);
        metrics.add(&families::SPILL, &source, spilled as f64);
    }
    if let Some(scan) = &facts.scan {
        if let Some(at) = scan.scanned_at {
            metrics.add(&families::SCANNED_AT, &source, seconds(at));
        }
        metrics.add(&families::SCAN_FAILED, &source, scan.failed as f64);
    }
}

fn of_policy(policy: &str, sites: &[&SiteFacts], breached: &BTreeMap<&str, u64>, metrics: &mut Metrics) {
    let state_of = |site: &SiteFacts| match site.listed {
        _ if breached.contains_key(site.site.as_str()) => "breached",
        Listed::Accepted => "gone",
        _ => "ok",
    };
    for state in ["ok", "breached", "gone"] {
        let count = sites.iter().filter(|site| state_of(site) == state).count();
        metrics.add(&families::SITES, &[("policy", policy), ("state", state)], count as f64);
    }
    let policy = [("policy", policy)];
    let expected = || sites.iter().filter(|site| site.is_expected);
    let oldest = |of: fn(&SiteFacts) -> Option<Timestamp>| expected().filter_map(|site| of(site)).min().map(seconds);
    if let Some(one) = sites.first() {
        metrics.add(&families::RPO, &policy, one.rpo.as_secs_f64());
        metrics.add(&families::RTO, &policy, one.rto.as_secs_f64());
    }
    let ages = [
        (&families::OLDEST_RESTORABLE, oldest(|site| site.restorable_till)),
        (&families::OLDEST_VERIFIED, oldest(SiteFacts::verified_at)),
        (&families::OLDEST_PROVEN, oldest(SiteFacts::unproven_since)),
    ];
    for (family, at) in ages {
        if let Some(at) = at {
            metrics.add(family, &policy, at);
        }
    }
    let never = expected().filter(|site| site.summary.as_ref().is_none_or(|summary| summary.proven.is_none()));
    metrics.add(&families::NEVER_PROVEN, &policy, never.count() as f64);
    if let Some(slowest) = sites.iter().filter_map(|site| drill_took(site)).max() {
        metrics.add(&families::SLOWEST_DRILL, &policy, slowest.as_secs_f64());
    }
    let bytes: u64 = sites.iter().filter_map(|site| site.summary.as_ref()).map(|summary| summary.logical_bytes).sum();
    metrics.add(&families::LOGICAL_BYTES, &policy, bytes as f64);
}

fn drill_took(site: &SiteFacts) -> Option<Duration> {
    site.summary.as_ref()?.proven.map(|proven| proven.took)
}

fn of_points(facts: &Facts, metrics: &mut Metrics) {
    let sum =
        |of: fn(&SiteSummary) -> u64| facts.sites.iter().filter_map(|site| site.summary.as_ref()).map(of).sum::<u64>();
    let marks = [
        ("good", sum(|summary| summary.good)),
        ("incomplete", sum(|summary| summary.incomplete)),
        ("suspect", sum(|summary| summary.suspect)),
        ("undo", sum(|summary| summary.undo)),
    ];
    for (mark, count) in marks {
        metrics.add(&families::POINTS, &[("mark", mark)], count as f64);
    }
    metrics.add(&families::HOLDS, &[], sum(|summary| summary.holds) as f64);
}

fn of_site(facts: &SiteFacts, breached: &BTreeMap<&str, u64>, metrics: &mut Metrics) {
    let site = [("site", facts.site.as_str()), ("policy", facts.policy.as_str())];
    let summary = facts.summary.as_ref();
    let proven = summary.and_then(|summary| summary.proven);
    let values = [
        (&families::SITE_RESTORABLE, facts.restorable_till.map(seconds)),
        (&families::SITE_VERIFIED, facts.verified_at().map(seconds)),
        (&families::SITE_PROVEN, proven.map(|proven| seconds(proven.at))),
        (&families::SITE_DRILL, proven.map(|proven| proven.took.as_secs_f64())),
        (&families::SITE_BYTES, summary.map(|summary| summary.logical_bytes as f64)),
    ];
    for (family, value) in values {
        if let Some(value) = value {
            metrics.add(family, &site, value);
        }
    }
    let alarms = breached.get(facts.site.as_str()).copied().unwrap_or(0);
    metrics.add(&families::SITE_ALARMS, &site, alarms as f64);
}
