//! Tables: what is kept of which points, and why.

use super::*;

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn point(number: u8, at: &str) -> PointFacts {
    PointFacts {
        id: SnapshotId([number; 8]),
        at: time(at),
        mark: Mark::Good,
        is_scan: false,
        restore: None,
        bases: BTreeSet::new(),
    }
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

/// A point a day at 02:00, the last one on the day of `now`.
fn nights(count: u32, now: Timestamp) -> Vec<PointFacts> {
    let at = |back: u32| now.saturating_sub(days(u64::from(back)));
    (0..count)
        .rev()
        .map(|back| PointFacts { at: at(back), ..point(u8::try_from(back % 250).unwrap(), "2026-01-01T02:00:00Z") })
        .map(|point| PointFacts { id: SnapshotId((point.at.0 as u64).to_be_bytes()), ..point })
        .collect()
}

fn kept(decisions: &[Decision]) -> Vec<String> {
    let day = |at: Timestamp| at.to_string()[..10].to_owned();
    decisions.iter().filter(|decision| decision.is_kept()).map(|decision| day(decision.at)).collect()
}

const NOW: &str = "2026-03-31T02:00:00Z";

#[test]
fn calendar_rules_keep_the_newest_of_each_slot_until_so_many_are_filled() {
    let now = time(NOW);
    let points = nights(500, now);
    let check = |rules: KeepRules, want: &[&str]| {
        assert_eq!(kept(&decide(&points, SiteFacts::default(), (&rules, &utc()), now)), want, "{rules:?}");
    };
    // What the window's begin stands on is the newest here, for the window is empty.
    check(KeepRules::default(), &["2026-03-31"]);
    check(KeepRules { last: 3, ..KeepRules::default() }, &["2026-03-29", "2026-03-30", "2026-03-31"]);
    check(KeepRules { daily: 2, ..KeepRules::default() }, &["2026-03-30", "2026-03-31"]);
    check(
        KeepRules { weekly: 3, ..KeepRules::default() },
        &["2026-03-22", "2026-03-29", "2026-03-31"], // Sundays, and the week that has begun
    );
    check(KeepRules { monthly: 3, ..KeepRules::default() }, &["2026-01-31", "2026-02-28", "2026-03-31"]);
    check(KeepRules { yearly: 3, ..KeepRules::default() }, &["2024-12-31", "2025-12-31", "2026-03-31"]);
    check(KeepRules { within: Some(days(2)), ..KeepRules::default() }, &["2026-03-29", "2026-03-30", "2026-03-31"]);
    check(KeepRules { daily: 2, monthly: 2, ..KeepRules::default() }, &["2026-02-28", "2026-03-30", "2026-03-31"]);
    // More slots than there are points: all are kept.
    let decisions =
        decide(&points, SiteFacts::default(), (&KeepRules { daily: 900, ..KeepRules::default() }, &utc()), now);
    assert_eq!(kept(&decisions).len(), 500);
}

#[test]
fn a_slot_is_one_of_the_policys_zone_and_an_hour_that_comes_twice_is_two() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let check = |points: &[PointFacts], zone: &TimeZone, rules: KeepRules, want: &[u8]| {
        let now = time("2026-12-31T00:00:00Z");
        let decisions = decide(points, SiteFacts::default(), (&rules, zone), now);
        let kept: Vec<u8> = decisions.iter().filter(|decision| decision.is_kept()).map(|one| one.id.0[0]).collect();
        assert_eq!(kept, want, "{rules:?}");
    };
    // One day in Berlin, two in UTC.
    let midnight =
        [point(1, "2026-07-01T21:30:00Z"), point(2, "2026-07-01T22:30:00Z"), point(3, "2026-07-02T10:00:00Z")];
    check(&midnight, &utc(), KeepRules { daily: 2, ..KeepRules::default() }, &[2, 3]);
    check(&midnight, &berlin, KeepRules { daily: 2, ..KeepRules::default() }, &[1, 3]);
    // 25 October 2026: it is twice a quarter past two.
    let hours = [point(1, "2026-10-25T00:15:00Z"), point(2, "2026-10-25T01:15:00Z"), point(3, "2026-10-25T02:15:00Z")];
    check(&hours, &berlin, KeepRules { hourly: 3, ..KeepRules::default() }, &[1, 2, 3]);
}

// Explains invariant: retention-only-drops-the-unneeded
#[test]
fn what_is_needed_is_kept_whatever_the_rules_say() {
    let now = time(NOW);
    let rules = KeepRules { window: days(14), undo: days(7), ..KeepRules::default() };
    let log = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let (of, under) = (RestoreId([9; 8]), RestoreId([8; 8]));
    let points = [
        PointFacts { bases: log(&["app/1"]), ..point(1, "2026-01-01T02:00:00Z") },
        PointFacts { bases: log(&["app/1", "app/2"]), ..point(2, "2026-02-01T02:00:00Z") },
        PointFacts { bases: log(&["app/2"]), ..point(3, "2026-03-01T02:00:00Z") },
        PointFacts { mark: Mark::Undo, restore: Some(of), ..point(4, "2026-03-02T02:00:00Z") },
        PointFacts { mark: Mark::Suspect, ..point(5, "2026-03-10T02:00:00Z") },
        PointFacts { mark: Mark::Incomplete, is_scan: true, ..point(6, "2026-03-20T02:00:00Z") },
        PointFacts { mark: Mark::Suspect, ..point(7, "2026-03-21T02:00:00Z") },
        point(8, "2026-03-22T02:00:00Z"),
        PointFacts { mark: Mark::Undo, restore: Some(under), ..point(9, "2026-03-26T02:00:00Z") },
        PointFacts { mark: Mark::Suspect, ..point(10, "2026-04-02T02:00:00Z") },
    ];
    let check = |site: SiteFacts, want: &[(u8, &[Reason])]| {
        let decisions = decide(&points, site, (&rules, &utc()), now);
        assert_eq!(decisions.len(), points.len());
        let kept = decisions.iter().filter(|decision| decision.is_kept());
        let kept: Vec<(u8, &[Reason])> = kept.map(|one| (one.id.0[0], one.reasons.as_slice())).collect();
        assert_eq!(kept, want);
    };
    let usual: [(u8, &[Reason]); 7] = [
        (2, &[Reason::BaseOfWindow]), // of the first log nothing newer stands before the window
        (3, &[Reason::BaseOfWindow]),
        (6, &[Reason::Window]),
        (7, &[Reason::Window]),
        (8, &[Reason::Newest, Reason::Window]),
        (9, &[Reason::Undo]),
        (10, &[Reason::InTheFuture, Reason::Window]),
    ];
    check(SiteFacts::default(), &usual);
    // An open restore needs what it restores, and what it has kept to be undone.
    let open = SiteFacts { open: Some(of), restoring: Some(SnapshotId([1; 8])), ..SiteFacts::default() };
    let more: [(u8, &[Reason]); 2] = [(1, &[Reason::OpenRestore]), (4, &[Reason::OpenRestore])];
    let mut with_open: Vec<(u8, &[Reason])> = usual.into_iter().chain(more).collect();
    with_open.sort();
    check(open, &with_open);
    let held = decide(&points, SiteFacts { is_held: true, ..SiteFacts::default() }, (&rules, &utc()), now);
    assert!(held.iter().all(|decision| decision.reasons.contains(&Reason::Held)));
    // Of a site without a good point, the best there is.
    let poor = [PointFacts { mark: Mark::Suspect, ..point(1, "2025-01-01T02:00:00Z") }];
    let decisions = decide(&poor, SiteFacts::default(), (&rules, &utc()), now);
    assert_eq!(decisions[0].reasons, [Reason::NothingBetter]);
    assert!(decide(&[], SiteFacts::default(), (&rules, &utc()), now).is_empty());
}

#[test]
fn what_is_kept_once_more_each_night_is_what_was_kept_all_along() {
    // Forgetting each night and forgetting once in the end keep the same, where points come as they should.
    let rules = KeepRules { daily: 7, weekly: 4, monthly: 6, window: days(3), ..KeepRules::default() };
    let end = time(NOW);
    let all = nights(300, end);
    let mut left: Vec<PointFacts> = Vec::new();
    for (place, night) in all.iter().enumerate() {
        left.push(night.clone());
        let decisions = decide(&left, SiteFacts::default(), (&rules, &utc()), all[place].at);
        let stays: BTreeSet<SnapshotId> = decisions.iter().filter(|one| one.is_kept()).map(|one| one.id).collect();
        left.retain(|point| stays.contains(&point.id));
    }
    let once = decide(&all, SiteFacts::default(), (&rules, &utc()), end);
    let once: Vec<SnapshotId> = once.iter().filter(|one| one.is_kept()).map(|one| one.id).collect();
    assert_eq!(left.iter().map(|point| point.id).collect::<Vec<_>>(), once);
}

#[test]
fn a_snapshot_is_a_base_of_the_epoch_it_was_taken_in_and_near_a_border_of_that_doubt() {
    use lifeboat_engine::EpochSeen;
    use lifeboat_model::{
        Epoch, EpochFacts, EpochId, EpochReason, Generation, KeyNumber, Lsn, ManifestRef, ObjectId, PartRecord,
        PartStatus, PointState, SiteId, SiteState, SnapshotRecord, SourceKind, SourceName, WriterIdentity,
    };

    let source = || SourceName::new("app").unwrap();
    let writer = WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 };
    let epoch = |number: u32, begun: &str| EpochSeen {
        epoch: Epoch {
            id: EpochId(number),
            nonce: ObjectId([0; 16]),
            writer: writer.clone(),
            facts: EpochFacts {
                source: source(),
                kind: SourceKind::Postgres,
                system_identifier: "1".into(),
                timeline: 1,
                slot: "s".into(),
                database: "d".into(),
                begins: Lsn(1),
                snapshot: "1:1:".into(),
                begun_at: time(begun),
                why: EpochReason::First,
                note: String::new(),
                sound_till: None,
                partly: Vec::new(),
            },
        },
        begins: None,
        till: None,
        has_ended: false,
    };
    let epochs = Epochs::from([(source(), vec![epoch(1, "2026-03-01T00:00:00Z"), epoch(2, "2026-03-10T00:00:00Z")])]);
    let record = |at: &str, mark: Mark, is_scan: bool| SnapshotRecord {
        id: SnapshotId([1; 8]),
        generation: Generation(1),
        manifest: ManifestRef { id: ObjectId([1; 16]), len: 1, head_offset: 0, head_len: 1 },
        mark,
        mark_reason: None,
        state: PointState::ReadBack,
        cut_from: time(at),
        cut_till: time(at),
        parent: None,
        entries: 1,
        logical_bytes: 1,
        added_bytes: 1,
        parts: vec![PartRecord {
            source: source(),
            kind: SourceKind::Postgres,
            status: PartStatus::Complete,
            entries: 1,
            logical_bytes: 1,
            cut_from: time(at),
            cut_till: time(at),
        }],
        restore: None,
        moment: None,
        is_scan,
        forgotten: None,
    };
    let check = |at: &str, mark: Mark, is_scan: bool, want: &[&str]| {
        let site = SiteId::new("acme").unwrap();
        let state = SiteState { snapshots: vec![record(at, mark, is_scan)], ..SiteState::new(site, KeyNumber(1)) };
        let (points, _) = facts(&state, &epochs);
        assert_eq!(points[0].bases.iter().map(String::as_str).collect::<Vec<_>>(), want, "{at}");
    };
    check("2026-03-05T00:00:00Z", Mark::Good, false, &["app, epoch 1", "app, perhaps epoch 2"]);
    check("2026-03-05T00:00:00Z", Mark::Suspect, false, &["app, epoch 1", "app, perhaps epoch 2"]);
    check("2026-03-05T00:00:00Z", Mark::Incomplete, false, &[]);
    check("2026-03-05T00:00:00Z", Mark::Undo, false, &[]);
    check("2026-03-05T00:00:00Z", Mark::Incomplete, true, &["scans of app"]);
    check("2026-02-20T00:00:00Z", Mark::Good, false, &["app, perhaps epoch 1", "app, perhaps epoch 2"]);
    check("2026-03-10T00:30:00Z", Mark::Good, false, &["app, perhaps epoch 1", "app, perhaps epoch 2"]);
    check("2026-03-10T03:00:00Z", Mark::Good, false, &["app, epoch 2"]);
}
