//! How far back logs are needed: for the window, for who is held, and for nobody who is gone.

use lifeboat_model::{
    Generation, Hold, HoldId, HoldReason, KeyNumber, ManifestRef, ObjectId, PartRecord, PointState, RestoreId,
    RestoreIntent, SnapshotId, SourceKind, WriterIdentity,
};

use super::*;

const DAY: i64 = 86_400_000_000;
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const UNNAMED: Duration = Duration::from_secs(2 * 86_400);
const NOW: i64 = 100;

fn day(day: i64) -> Timestamp {
    Timestamp(day * DAY)
}

fn source(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

/// A snapshot that was cut on a day, with these parts.
fn base(cut: i64, parts: &[&str]) -> SnapshotRecord {
    let part = |name: &&str| PartRecord {
        source: source(name),
        kind: SourceKind::Postgres,
        status: PartStatus::Complete,
        entries: 1,
        logical_bytes: 1,
        cut_from: day(cut),
        cut_till: day(cut),
    };
    SnapshotRecord {
        id: SnapshotId([cut as u8; 8]),
        generation: Generation(1),
        manifest: ManifestRef { id: ObjectId([1; 16]), len: 1, head_offset: 0, head_len: 1 },
        mark: Mark::Good,
        mark_reason: None,
        state: PointState::ReadBack,
        cut_from: day(cut),
        cut_till: day(cut),
        parent: None,
        entries: 1,
        logical_bytes: 1,
        added_bytes: 1,
        parts: parts.iter().map(part).collect(),
        restore: None,
        moment: None,
        is_scan: false,
        forgotten: None,
    }
}

fn site(name: &str, cuts: &[i64]) -> SiteState {
    let snapshots = cuts.iter().map(|cut| base(*cut, &["app"])).collect();
    SiteState { snapshots, ..SiteState::new(SiteId::new(name).unwrap(), KeyNumber(1)) }
}

fn hold(placed: i64) -> Hold {
    Hold { id: HoldId([1; 8]), reason: HoldReason::Asked, note: "legal".into(), placed_at: day(placed) }
}

fn needs(demands: &[(&SiteState, bool)]) -> (LogNeeds, KeptFor) {
    of_window(demands, WEEK)
}

fn of_window(sites: &[(&SiteState, bool)], window: Duration) -> (LogNeeds, KeptFor) {
    let mut demands = LogDemands::new(day(NOW), (window, WEEK));
    for (state, is_gone) in sites {
        demands.add(&LogDemand { state, window, undelete: 2 * WEEK, is_gone: *is_gone });
    }
    demands.needs(&source("app"), UNNAMED)
}

#[track_caller]
fn check(sites: &[(&SiteState, bool)], since: i64, kept_for: Option<(&str, bool)>) {
    let (needs, found) = needs(sites);
    let want =
        kept_for.map_or(KeptFor::Window, |(site, is_held)| KeptFor::Site { site: SiteId::new(site).unwrap(), is_held });
    assert_eq!((needs.since, found), (day(since), want));
}

#[test]
fn a_log_is_kept_from_the_newest_base_before_the_window_of_who_needs_most() {
    // The window begins on day 93.
    let (a, b) = (site("a", &[80, 90, 95, 99]), site("b", &[91, 98]));
    check(&[(&a, false)], 90, Some(("a", false)));
    check(&[(&b, false)], 91, Some(("b", false)));
    check(&[(&b, false), (&a, false)], 90, Some(("a", false)));
    // New: never shorter than the window.
    check(&[(&site("new", &[98]), false)], 93, None);
    check(&[], 93, None);
    let (shared, _) = needs(&[(&a, false), (&b, false)]);
    let cuts = |needs: &LogNeeds| needs.bases.iter().map(|base| base.cut_from).collect::<Vec<_>>();
    assert_eq!(cuts(&shared), [90, 91, 95, 98, 99].map(day), "the oldest that is needed, and all behind it, in order");
    let (c, d) = (site("c", &[95, 99]), site("d", &[97]));
    let (later, _) = needs(&[(&c, false), (&d, false)]);
    assert_eq!((later.since, cuts(&later)), (day(93), [95, 97, 99].map(day).to_vec()));
    assert_eq!(needs(&[]).0.bases, []);
    // Whatever the window: a backup that no commit names yet may be two days old.
    assert_eq!(of_window(&[(&site("new", &[98]), false)], Duration::ZERO).0.since, day(98));
    assert_eq!(of_window(&[(&site("new", &[99]), false)], Duration::ZERO).0.since, day(98));
}

#[test]
fn what_no_change_goes_on_top_of_needs_no_log() {
    let mut odd = site("odd", &[80, 90, 95]);
    odd.snapshots[1].mark = Mark::Incomplete;
    check(&[(&odd, false)], 80, Some(("odd", false)));
    odd.snapshots[0].is_scan = true;
    check(&[(&odd, false)], 93, None);
    // A site that is in other sources alone, and one that was first seen in the log.
    let mut elsewhere = site("elsewhere", &[80, 90]);
    let absent = |record: &mut SnapshotRecord| record.parts[0].status = PartStatus::Absent;
    elsewhere.snapshots.iter_mut().for_each(|record| record.parts.push(base(80, &["files"]).parts[0].clone()));
    elsewhere.snapshots.iter_mut().for_each(absent);
    check(&[(&elsewhere, false)], 93, None);
    let mut born = site("born", &[90]);
    absent(&mut born.snapshots[0]);
    check(&[(&born, false)], 93, None);
    born.snapshots[0].mark = Mark::Suspect;
    check(&[(&born, false)], 90, Some(("born", false)));
    // It is in this source no more: the base before the window tells so.
    let mut moved = site("moved", &[80]);
    moved.snapshots.push(base(90, &["other"]));
    check(&[(&moved, false)], 93, None);
    moved.snapshots.push(base(94, &["app"]));
    check(&[(&moved, false)], 93, None);
}

#[test]
fn a_held_site_keeps_what_it_needed_when_it_was_held_and_one_that_is_gone_nothing_in_the_end() {
    let mut held = site("held", &[20, 30, 40, 50]);
    check(&[(&held, false)], 50, Some(("held", false)));
    held.holds.push(hold(44));
    check(&[(&held, false)], 30, Some(("held", true)));
    held.holds.push(hold(29));
    check(&[(&held, false)], 20, Some(("held", true)));

    // Gone, and that is meant: its last moments are past once its last base is two windows old.
    check(&[(&site("gone", &[87]), true)], 87, Some(("gone", false)));
    check(&[(&site("gone", &[85]), true)], 93, None);
    check(&[(&site("failing", &[20]), false)], 20, Some(("failing", false)));
    held.snapshots.truncate(1);
    check(&[(&held, true)], 20, Some(("held", true)));
}

#[test]
fn what_a_log_needs_no_more_stays_as_long_as_anybodys_points_do() {
    let (needs, _) = needs(&[(&site("a", &[99]), false)]);
    assert_eq!(needs.undelete, 2 * WEEK);
    let nobodys = LogDemands::new(day(NOW), (WEEK, WEEK));
    assert_eq!(nobodys.needs(&source("app"), UNNAMED).0.undelete, WEEK);
}

#[test]
fn a_log_is_left_alone_while_a_site_is_restored_that_may_be_made_from_it() {
    let mut open = site("open", &[99]);
    let owner = WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 };
    let intent = RestoreIntent {
        restore: RestoreId([1; 8]),
        snapshot: open.snapshots[0].id,
        parts: vec![source("app")],
        opened_at: day(100),
        owner,
        takes_over: None,
        moment: None,
        keeps_later: false,
    };
    open.intent = Some(intent);
    let mut demands = LogDemands::new(day(NOW), (WEEK, WEEK));
    demands.add(&LogDemand { state: &site("a", &[99]), window: WEEK, undelete: WEEK, is_gone: false });
    assert_eq!(demands.open_restore(&source("app")), None);
    demands.add(&LogDemand { state: &open, window: WEEK, undelete: WEEK, is_gone: false });
    assert_eq!(demands.open_restore(&source("app")), Some(&open.site));
    assert_eq!(demands.open_restore(&source("other")), None);
}
