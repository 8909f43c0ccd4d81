//! Facts in, alarms out: a row for each kind, and for where it begins.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_model::{DrillFailed, Mark, Proven, RecoveryId, SnapshotId};

use super::*;
use crate::{NewestSnapshot, SiteSummary, Standing};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// A hundred days after the beginning.
const NOW: Timestamp = Timestamp(100 * DAY);

fn ago(micros: i64) -> Timestamp {
    Timestamp(NOW.0 - micros)
}

pub(crate) fn site(name: &str) -> SiteFacts {
    SiteFacts {
        site: SiteId::new(name).unwrap(),
        policy: "default".into(),
        rpo: Duration::from_secs(86_400),
        rto: Duration::from_secs(900),
        listed: Listed::Yes,
        is_expected: true,
        summary: Some(SiteSummary {
            latest: Some(SnapshotId([1; 8])),
            latest_at: Some(ago(HOUR)),
            good: 1,
            standing: Some(Standing {
                first_at: Some(ago(50 * DAY)),
                newest: Some(NewestSnapshot { at: ago(HOUR), mark: Mark::Good, reason: None }),
                read_back_till: Some(ago(HOUR)),
                intent_opened_at: None,
            }),
            ..SiteSummary::default()
        }),
        new_since: None,
        found_good_at: None,
        restorable_till: Some(ago(HOUR)),
        oldest: None,
        without_base: Vec::new(),
        failures: 0,
        failure: None,
        checked_at: None,
        damage: None,
        unreadable: None,
    }
}

fn source(name: &str) -> SourceFacts {
    let source = SourceName::new(name).unwrap();
    SourceFacts { source, failure: None, left_out: None, capture: None, scan: None, damage: None }
}

fn captured() -> CaptureFacts {
    CaptureFacts { begun_at: Some(ago(DAY)), till: Some(ago(0)), ..CaptureFacts::default() }
}

pub(crate) fn facts(sites: Vec<SiteFacts>, sources: Vec<SourceFacts>) -> Facts {
    Facts {
        at: NOW,
        assessed: Assessed::All,
        repository: RepositoryFacts { failure: None, recovery_key_verified: Some(true) },
        sources,
        sites,
        disks: Vec::new(),
        notifiers: Vec::new(),
        jobs: Vec::new(),
    }
}

fn trouble(reason: &str) -> Trouble {
    Trouble { reason: reason.into(), hint: None }
}

fn limits() -> AlarmLimits {
    AlarmLimits { proven_within: Some(Duration::from_secs(60 * 86_400)), ..AlarmLimits::default() }
}

/// The alarms' ids with their severities.
#[track_caller]
fn check(facts: &Facts, want: &[(&str, Severity)]) {
    let alarms = judge(facts, &limits());
    let got: Vec<(String, Severity)> = alarms.iter().map(|alarm| (alarm.id(), alarm.severity)).collect();
    let got: Vec<(&str, Severity)> = got.iter().map(|(id, severity)| (id.as_str(), *severity)).collect();
    assert_eq!(got, want, "{alarms:#?}");
    for alarm in alarms {
        assert!(alarm.kind.severities().contains(&alarm.severity), "{alarm:?}");
        assert!(!alarm.text.is_empty() && !alarm.hint.is_empty() && alarm.text.lines().count() == 1, "{alarm:?}");
    }
}

fn of_site(change: impl FnOnce(&mut SiteFacts)) -> Facts {
    let mut one = site("acme");
    change(&mut one);
    facts(vec![one], Vec::new())
}

fn of_summary(change: impl FnOnce(&mut SiteSummary, &mut Standing)) -> Facts {
    of_site(|site| {
        let summary = site.summary.as_mut().unwrap();
        let mut standing = summary.standing.clone().unwrap();
        change(summary, &mut standing);
        summary.standing = Some(standing);
    })
}

fn of_source(change: impl FnOnce(&mut SourceFacts)) -> Facts {
    let mut one = source("app");
    change(&mut one);
    facts(Vec::new(), vec![one])
}

fn of_capture(change: impl FnOnce(&mut CaptureFacts)) -> Facts {
    of_source(|source| {
        let mut capture = captured();
        change(&mut capture);
        source.capture = Some(capture);
    })
}

use Severity::{Critical, Notice, Warning};

// Explains invariant: silence-is-an-alarm
#[test]
fn a_site_without_a_point_within_its_rpo_is_alarmed_of() {
    const OVERDUE: &[(&str, Severity)] = &[("point_overdue/site:acme", Critical)];
    check(&of_site(|_| {}), &[]);
    check(&of_site(|site| site.restorable_till = Some(ago(DAY))), &[]);
    check(&of_site(|site| site.restorable_till = Some(ago(DAY + 1))), OVERDUE);
    check(&of_site(|site| site.restorable_till = None), OVERDUE);
    let never =
        |new_since| of_site(|site| (site.summary, site.restorable_till, site.new_since) = (None, None, new_since));
    check(&never(None), OVERDUE);
    check(&never(Some(ago(DAY))), &[]);
    check(&never(Some(ago(DAY + 1))), OVERDUE);
    // Of one that no source lists any more there is nothing newer to be had: that is another alarm.
    let gone = |listed| {
        of_site(|site| {
            (site.restorable_till, site.is_expected, site.listed) = (Some(ago(9 * DAY)), false, listed);
        })
    };
    check(&gone(Listed::Vanished), &[("site_vanished/site:acme", Critical)]);
    check(&gone(Listed::Accepted), &[]);
    check(&gone(Listed::Unknown), &[]);
    let alarms = judge(&of_site(|site| site.restorable_till = Some(ago(3 * DAY))), &limits());
    assert_eq!(alarms[0].since, Some(ago(2 * DAY)), "since the promise was broken, not since it was seen");
    assert!(alarms[0].text.contains("3 d") && alarms[0].text.contains("24 h"), "{}", alarms[0].text);
}

#[test]
fn what_is_wrong_with_a_site_itself() {
    let newest = |mark| {
        of_summary(|_, standing| {
            standing.newest = Some(NewestSnapshot { at: ago(HOUR), mark, reason: Some("half of it".into()) });
        })
    };
    check(&newest(Mark::Suspect), &[("site_shrank/site:acme", Critical)]);
    check(&newest(Mark::Incomplete), &[("site_incomplete/site:acme", Warning)]);
    check(&newest(Mark::Good), &[]);
    // A later run found all as the good one before has it.
    let mut found = newest(Mark::Incomplete);
    found.sites[0].found_good_at = Some(ago(HOUR / 2));
    check(&found, &[]);
    found.sites[0].found_good_at = Some(ago(2 * HOUR));
    check(&found, &[("site_incomplete/site:acme", Warning)]);
    let failing = |times| of_site(|site| (site.failures, site.failure) = (times, Some("no space".into())));
    check(&failing(1), &[]);
    check(&failing(2), &[("backup_failing/site:acme", Warning)]);
    let app = SourceName::new("app").unwrap();
    check(&of_site(|site| site.without_base = vec![app]), &[("no_base/part:app/acme", Warning)]);
    let open = |at| of_summary(|_, standing| standing.intent_opened_at = Some(at));
    check(&open(ago(6 * HOUR)), &[]);
    check(&open(ago(6 * HOUR + 1)), &[("restore_open/site:acme", Warning)]);
    let damage = DamageSeen { found_at: ago(DAY), findings: 3, first: "object=`x`".into() };
    check(&of_site(|site| site.damage = Some(damage)), &[("damage_found/site:acme", Critical)]);
    // Of what cannot be read nothing else is known.
    let unreadable = of_site(|site| (site.unreadable, site.restorable_till) = (Some(trouble("torn")), None));
    check(&unreadable, &[("damage_found/site:acme", Critical)]);
}

#[test]
fn what_drills_and_checks_owe_a_site() {
    let proven = |at, seconds| Proven { at, moment: at, took: Duration::from_secs(seconds), drill: RecoveryId([7; 8]) };
    const OVERDUE: &[(&str, Severity)] = &[("drill_overdue/site:acme", Warning)];
    check(&of_summary(|summary, _| summary.proven = Some(proven(ago(60 * DAY), 900))), &[]);
    check(&of_summary(|summary, _| summary.proven = Some(proven(ago(60 * DAY + 1), 1))), OVERDUE);
    // One that no drill ever proved is owed one since its first point.
    check(&of_summary(|_, standing| standing.first_at = Some(ago(60 * DAY + 1))), OVERDUE);
    let never = judge(&of_summary(|_, standing| standing.first_at = Some(ago(61 * DAY))), &AlarmLimits::default());
    assert_eq!(never, [], "nobody has promised drills");
    let slow = of_summary(|summary, _| summary.proven = Some(proven(ago(DAY), 901)));
    check(&slow, &[("rto_breached/site:acme", Warning)]);
    let failed = DrillFailed { at: ago(DAY), drill: RecoveryId([7; 8]) };
    check(&of_summary(|summary, _| summary.drill_failed = Some(failed)), &[("drill_failed/site:acme", Critical)]);

    const UNREAD: &[(&str, Severity)] = &[("point_unverified/site:acme", Warning)];
    let read_back = |at| of_summary(|_, standing| standing.read_back_till = at);
    check(&read_back(Some(ago(30 * DAY))), &[]);
    check(&read_back(Some(ago(30 * DAY + 1))), UNREAD);
    check(&read_back(None), UNREAD);
    let mut checked = read_back(None);
    checked.sites[0].checked_at = Some(ago(DAY));
    check(&checked, &[]);
    check(
        &of_summary(|summary, standing| {
            (summary.proven, standing.read_back_till) = (Some(proven(ago(DAY), 1)), None);
        }),
        &[],
    );
}

#[test]
fn what_is_wrong_with_a_source() {
    check(&of_source(|_| {}), &[]);
    check(&of_source(|source| source.failure = Some(trouble("no root"))), &[("source_failed/source:app", Critical)]);
    let left_out = of_source(|source| source.left_out = Some(trouble("2 sites")));
    check(&left_out, &[("sites_left_out/source:app", Critical)]);
    const BEHIND: &[(&str, Severity)] = &[("capture_behind/source:app", Warning)];
    check(&of_capture(|_| {}), &[]);
    check(&of_capture(|capture| capture.till = Some(ago(HOUR))), BEHIND);
    check(&of_capture(|capture| (capture.begun_at, capture.till) = (None, None)), BEHIND);
    let slot = |state| {
        of_capture(|capture| capture.slot = Some(SlotFacts { state, kept_bytes: 9 << 30, limit_bytes: 16 << 30 }))
    };
    check(&slot(SlotState::Well), &[]);
    check(&slot(SlotState::Half), &[("slot_filling/source:app", Warning)]);
    check(&slot(SlotState::Beyond), &[("slot_filling/source:app", Critical)]);
    check(&slot(SlotState::Lost("dropped".into())), &[("slot_lost/source:app", Critical)]);
    let drift = of_capture(|capture| capture.drift = vec!["a table".into(), "another".into()]);
    check(&drift, &[("capture_drift/source:app", Warning)]);
    let only_here = of_capture(|capture| capture.only_here = Some(("from here".into(), 5)));
    check(&only_here, &[("changes_only_here/source:app", Warning)]);
    // Down is down: once, whoever found it.
    let mut down = of_capture(|capture| capture.unreachable = Some("refused".into()));
    check(&down, &[("source_failed/source:app", Critical)]);
    down.sources[0].failure = Some(trouble("refused"));
    check(&down, &[("source_failed/source:app", Critical)]);
    let scan = |scanned_at, failed| {
        of_source(|source| {
            let late_after = Duration::from_secs(900);
            source.scan = Some(ScanFacts { scanned_at, failed, late_after, sites: 3, trouble: None });
        })
    };
    const SCANS: &[(&str, Severity)] = &[("scans_behind/source:app", Warning)];
    check(&scan(Some(ago(900_000_000)), 0), &[]);
    check(&scan(Some(ago(900_000_001)), 0), SCANS);
    check(&scan(Some(ago(1)), 2), SCANS);
    check(&scan(None, 0), SCANS);
}

#[test]
fn what_is_wrong_with_the_store_and_the_host() {
    let mut away = Facts::without_store(NOW, trouble("no answer"));
    check(&away, &[("store_unreachable/repository", Critical)]);
    away.disks = vec![DiskFacts { place: "catalog".into(), path: "/c".into(), free_bytes: 49, size_bytes: 1000 }];
    check(&away, &[("store_unreachable/repository", Critical), ("disk_low/disk:catalog", Critical)]);
    let mut roomy = facts(Vec::new(), Vec::new());
    roomy.disks = vec![DiskFacts { free_bytes: 50, ..away.disks[0].clone() }];
    check(&roomy, &[]);
    let bytes = AlarmLimits { disk_free: DiskFree::Bytes(51), ..limits() };
    assert_eq!(judge(&roomy, &bytes).len(), 1);
    let mut unproven = facts(Vec::new(), Vec::new());
    unproven.repository.recovery_key_verified = Some(false);
    check(&unproven, &[("recovery_key_unproven/repository", Notice)]);
    let failing = Some((ago(HOUR), "status=`500`".to_owned()));
    let mut untold = facts(Vec::new(), Vec::new());
    untold.notifiers = vec![NotifierHealth { name: "ops".into(), sent: 1, failed: 2, failing }];
    check(&untold, &[("notifications_failing/notify:ops", Warning)]);
    let mut refused = facts(Vec::new(), Vec::new());
    let (job, since) = ("forget and prune".to_owned(), ago(HOUR));
    refused.jobs = vec![JobTrouble { job, since, trouble: trouble("so many at once") }];
    check(&refused, &[("job_trouble/job:forget and prune", Warning)]);
}

#[test]
fn the_worst_comes_first_and_one_kind_stands_together() {
    let mut fleet = facts(vec![site("b"), site("a"), site("c")], vec![source("app")]);
    fleet.sites[0].restorable_till = None;
    fleet.sites[1].restorable_till = None;
    (fleet.sites[2].failures, fleet.sites[2].failure) = (5, Some("x".into()));
    fleet.sources[0].failure = Some(trouble("down"));
    fleet.repository.recovery_key_verified = Some(false);
    check(
        &fleet,
        &[
            ("source_failed/source:app", Critical),
            ("point_overdue/site:a", Critical),
            ("point_overdue/site:b", Critical),
            ("backup_failing/site:c", Warning),
            ("recovery_key_unproven/repository", Notice),
        ],
    );
}

fn firing(ids: &[(&str, Severity)]) -> Vec<AlarmNote> {
    let note = |(name, severity): &(&str, Severity)| {
        let mut alarm = judge(&of_site(|site| site.restorable_till = None), &limits()).remove(0);
        (alarm.subject, alarm.severity) = (Subject::Site(SiteId::new(*name).unwrap()), *severity);
        alarm.note(NOW)
    };
    ids.iter().map(note).collect()
}

fn told(notes: Vec<AlarmNote>, at: Timestamp) -> BTreeMap<String, Told> {
    notes.into_iter().map(|alarm| (alarm.id.clone(), Told { at, alarm })).collect()
}

fn rules(min_severity: Severity) -> RoundRules {
    RoundRules { min_severity, repeat: Duration::from_secs(86_400), assessed: Assessed::All }
}

fn sites(notes: &[AlarmNote]) -> Vec<&str> {
    notes.iter().map(|note| note.site.as_deref().unwrap_or_default()).collect()
}

// Explains invariant: told-once
#[test]
fn an_alarm_is_told_when_it_begins_gets_worse_lasts_or_is_over() {
    let check = |now: &[(&str, Severity)], before: &[(&str, Severity)], at: Timestamp, want: [&[&str]; 3]| {
        let round = transitions(&firing(now), &told(firing(before), at), rules(Warning), NOW);
        assert_eq!([sites(&round.began), sites(&round.repeated), sites(&round.resolved)], want, "{now:?} {before:?}");
        assert_eq!(round.is_empty(), want.iter().all(|some| some.is_empty()));
    };
    let just = ago(HOUR);
    check(&[("a", Critical)], &[], just, [&["a"], &[], &[]]);
    check(&[("a", Critical)], &[("a", Critical)], just, [&[], &[], &[]]);
    check(&[("a", Critical)], &[("a", Warning)], just, [&["a"], &[], &[]]);
    check(&[("a", Warning)], &[("a", Critical)], just, [&[], &[], &[]]);
    check(&[("a", Critical)], &[("a", Critical)], ago(DAY), [&[], &["a"], &[]]);
    check(&[("a", Critical), ("b", Warning)], &[("b", Warning), ("c", Warning)], just, [&["a"], &[], &["c"]]);
    check(&[], &[("a", Critical), ("b", Warning)], just, [&[], &[], &["a", "b"]]);
    // Below what this notifier wants to know of.
    check(&[("a", Notice)], &[], just, [&[], &[], &[]]);
    check(&[("a", Notice)], &[("a", Warning)], just, [&[], &[], &["a"]]);
}

#[test]
fn of_what_nobody_could_look_at_nobody_says_that_it_is_over() {
    let before = told(firing(&[("a", Critical)]), ago(HOUR));
    let away: Vec<AlarmNote> = judge(&Facts::without_store(NOW, trouble("no answer")), &limits())
        .iter()
        .map(|alarm| alarm.note(NOW))
        .collect();
    let blind = RoundRules { assessed: Assessed::HostOnly, ..rules(Warning) };
    let round = transitions(&away, &before, blind, NOW);
    assert_eq!((round.began.len(), round.resolved.len()), (1, 0), "{round:?}");
    // That the store is back can be told by whoever sees it.
    let round = transitions(&firing(&[("a", Critical)]), &told(away, ago(HOUR)), rules(Warning), NOW);
    assert_eq!((round.began.len(), round.resolved.len()), (1, 1), "{round:?}");
}

#[test]
fn the_failure_of_a_fleet_is_one_message_of_bounded_length() {
    let names: Vec<String> = (0..10_000).map(|number| format!("site-{number:05}")).collect();
    let ids: Vec<(&str, Severity)> = names.iter().map(|name| (name.as_str(), Critical)).collect();
    let round = transitions(&firing(&ids), &BTreeMap::new(), rules(Warning), NOW);
    let sender = Sender { host: "backup-1".into(), repository: Some("r".into()), version: "1" };
    let message = Message::of(&round, 10_000, &sender, NOW);
    assert!(message.json.len() < 40_000, "{}", message.json.len());
    assert!(message.text.lines().count() <= 12 && message.text.contains("10000 began"), "{}", message.text);
    let json: serde_json::Value = serde_json::from_str(&message.json).unwrap();
    assert_eq!(json["status"], "firing");
    assert_eq!((json["counts"]["began"].as_u64(), json["left_out"].as_u64()), (Some(10_000), Some(9_950)));
    assert_eq!(json["began"].as_array().unwrap().len(), 50);
    assert_eq!(json["began"][0]["site"], "site-00000");
    assert_eq!(
        json["kinds"][0],
        serde_json::json!({
            "kind": "point_overdue", "severity": "critical", "began": 10_000, "repeated": 0, "resolved": 0,
        })
    );
}

#[test]
fn every_word_of_a_kind_is_one_and_its_own() {
    let mut words: Vec<&str> = AlarmKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let plain = |word: &&str| word.chars().all(|char| char.is_ascii_lowercase() || char == '_');
    assert!(words.iter().all(plain), "{words:?}");
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), AlarmKind::ALL.len());
    for kind in AlarmKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}
