//! Where an epoch begins moves on: what is before it goes, in two steps, and nothing else does.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use lifeboat_model::{Lsn, RunNumber, SegmentNumber};
use lifeboat_store::{ObjectName, Store};

use super::*;
use crate::change_log::tests::{draft, facts, new_log, site, source};
use crate::tests::{new_repository, writer};
use crate::{CheckDepth, Repository};

const DAY: i64 = 86_400_000_000;
const RULES: PruneRules = PruneRules { grace: Duration::from_secs(86_400), unnamed: Duration::from_secs(2 * 86_400) };
const EPOCH: EpochId = EpochId(1);

/// Day 0 is today: what a test stores is created today.
fn clock(day: i64, run: u64) -> TrustedNow {
    let now = Timestamp(Timestamp::now().0 + day * DAY);
    TrustedNow { now, later: now, run: RunNumber(run) }
}

/// Without time to think better of it.
fn begin(first: u64) -> Option<LogWanted> {
    let begins = LogBegin { first: SegmentNumber(first), bases_since: Timestamp(first as i64) };
    Some(LogWanted { begins, undelete: Duration::ZERO })
}

async fn prune(log: &ChangeLog, begin: Option<LogWanted>, day: i64, run: u64) -> EpochPruned {
    log.prune(EPOCH, begin, (&RULES, &clock(day, run)), &writer()).await.unwrap()
}

async fn all_names(store: &dyn Store) -> BTreeSet<ObjectName> {
    store.list("log/", None, 1000).await.unwrap().into_iter().map(|listed| listed.name).collect()
}

/// The commits that a site reads from what is kept.
async fn commits(log: &ChangeLog) -> Vec<u64> {
    let kept = log.kept(EPOCH).await.unwrap();
    let last = log.newest_segment(EPOCH).await.unwrap().unwrap().number;
    let segments = log.segments_kept(&kept, kept.first()..=last).await.unwrap();
    let mut found = Vec::new();
    let acme = site("acme");
    let read = log.read_site(&acme, segments, |head, _| {
        found.push(head.commit.0);
        Ok::<(), ()>(())
    });
    read.await.unwrap().unwrap();
    found
}

async fn is_clean(log: &ChangeLog) {
    let log = ChangeLog::open(&log.repository, &source()).await.unwrap();
    let report = log.check(CheckDepth::ReadData { percent: 100, turn: 0 }, &[]).await.unwrap();
    assert_eq!(report.findings, [], "{report:?}");
}

// Explains invariant: log-only-the-condemned
#[tokio::test(flavor = "multi_thread")]
async fn what_is_before_the_begin_goes_after_a_grace_and_another_run_and_the_rest_is_read_on() {
    let (store, _, repository) = new_repository().await;
    let log = new_log(&repository, 12, &["acme"], 100).await;
    let hour = async |first: u64, last: u64| {
        log.compact(EPOCH, SegmentNumber(first)..=SegmentNumber(last), &writer()).await.unwrap().unwrap();
    };
    hour(1, 3).await;
    hour(4, 6).await;
    hour(7, 9).await;
    let before = all_names(store.as_ref()).await;
    assert!(prune(&log, None, 40, 9).await.plan.is_nothing());

    // The second long segment reaches over where it is to begin: it stays, with what it stands for.
    let condemned = prune(&log, begin(6), 0, 9).await;
    assert_eq!((condemned.deleted, condemned.condemned), (0, 4));
    assert_eq!(condemned.plan.begins, Some(LogBegin { first: SegmentNumber(4), bases_since: Timestamp(6) }));
    assert_eq!(commits(&log).await, (104..=112).collect::<Vec<_>>());
    is_clean(&log).await;
    assert_eq!(all_names(store.as_ref()).await.difference(&before).count(), 2, "its two commits alone are new");

    // Neither time alone nor a run alone deletes anything, and what waits is condemned once.
    assert_eq!(prune(&log, begin(6), 30, 9).await.deleted, 0);
    let waits = prune(&log, begin(6), 0, 10).await;
    assert_eq!((waits.deleted, waits.condemned, waits.plan.waits.objects), (0, 0, 4));
    let deleted = prune(&log, begin(6), 2, 10).await;
    assert_eq!((deleted.deleted, deleted.plan.deletes.objects), (4, 4));
    let gone: Vec<ObjectName> = before.difference(&all_names(store.as_ref()).await).cloned().collect();
    assert_eq!(gone.iter().filter(|name| name.as_str().contains("/seg/")).count(), 3, "{gone:?}");
    assert_eq!(gone.iter().filter(|name| name.as_str().contains("/long/")).count(), 1, "{gone:?}");
    assert_eq!(commits(&log).await, (104..=112).collect::<Vec<_>>());
    assert!(prune(&log, begin(6), 30, 20).await.plan.is_nothing());
    is_clean(&log).await;

    // Who captures goes on, and what is kept is compacted on.
    let mut appender = ChangeLog::open(&repository, &source()).await.unwrap().appender().await.unwrap().unwrap();
    appender.append(draft(113, &["acme"], 100), Lsn(113)).await.unwrap();
    hour(4, 12).await;
    assert_eq!(commits(&log).await, (104..=113).collect::<Vec<_>>());
    is_clean(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_no_more_can_be_had_for_the_undelete_time_and_needed_again() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 12, &["acme"], 10).await;
    let later = |first: u64| begin(first).map(|wanted| LogWanted { undelete: 8 * RULES.grace, ..wanted });
    let check = async |(day, wanted): (i64, u64), (first, marked, marks): (u64, u64, &[u64])| {
        let pruned = prune(&log, later(wanted), day, 9).await;
        let kept = log.kept(EPOCH).await.unwrap();
        let found: Vec<u64> = kept.marks.iter().map(|mark| mark.begins.first.0).collect();
        let found = (kept.first().0, pruned.plan.marked.objects, found.as_slice());
        assert_eq!(found, (first, marked, marks), "day {day}, wanted {wanted}");
    };
    check((0, 3), (1, 2, &[3])).await;
    // Marks come a part of that time apart, and none twice.
    check((0, 5), (1, 2, &[3])).await;
    check((1, 5), (1, 4, &[3, 5])).await;
    check((3, 5), (1, 4, &[3, 5])).await;
    check((4, 8), (1, 7, &[3, 5, 8])).await;
    // A window is made longer again: what is needed is marked no more, whatever was wanted in between.
    check((4, 4), (1, 3, &[3, 4])).await;
    check((5, 4), (1, 3, &[3, 4])).await;
    check((7, 8), (1, 7, &[3, 4, 8])).await;
    check((8, 8), (3, 5, &[4, 8])).await;
    assert_eq!(log.kept(EPOCH).await.unwrap().begins.unwrap().bases_since, Timestamp(3));
    // Ripe, and needed again.
    check((13, 3), (3, 0, &[])).await;
    check((14, 9), (3, 6, &[9])).await;
    check((21, 9), (3, 6, &[9])).await;
    check((23, 7), (3, 4, &[7])).await;
    check((31, 9), (7, 2, &[9])).await;
    is_clean(&log).await;
    // Who cannot tell what is needed lets go of nothing, whatever is marked.
    assert_eq!(prune(&log, None, 90, 9).await.condemned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_segments_stay_whatever_is_wanted_and_so_does_how_an_epoch_ended() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 5, &["acme"], 10).await;
    prune(&log, begin(1_000), 0, 9).await;
    assert_eq!(commits(&log).await, [104, 105]);
    log.begin_epoch(facts(300), &writer()).await.unwrap();
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    prune(&log, begin(1_000), 0, 9).await;
    prune(&log, begin(1_000), 5, 10).await;
    let kept = log.kept(EPOCH).await.unwrap();
    assert_eq!(kept.first(), SegmentNumber(5));
    let last = log.newest_segment(EPOCH).await.unwrap().unwrap();
    let kept = log.segments_kept(&kept, kept.first()..=last.number).await.unwrap();
    let footers: Vec<_> = log.footers(kept).await.unwrap().map_ok(|(_, footer)| footer).try_collect().await.unwrap();
    assert_eq!(footers.iter().map(|footer| footer.followed_by).collect::<Vec<_>>(), [None, Some(EpochId(2))]);
    is_clean(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_segments_that_stand_for_nothing_go_once_they_are_old_and_are_never_published_after() {
    let (store, _, repository) = new_repository().await;
    let log = new_log(&repository, 9, &["acme"], 10).await;
    let compact = async |first: u64, last: u64| {
        log.compact(EPOCH, SegmentNumber(first)..=SegmentNumber(last), &writer()).await.unwrap().unwrap().long
    };
    let hours = [compact(1, 3).await, compact(4, 6).await];
    let day = compact(1, 6).await;
    assert_eq!(prune(&log, None, 1, 9).await.condemned, 0, "somebody may read them");
    assert_eq!(prune(&log, None, 3, 9).await.condemned, 2);
    // One that was written and not published yet is an upload like any other.
    let unborn = lifeboat_model::LongSegment { id: hours[0].id, ..day };
    let late_writer = writer();
    let late = log.commit_log(EPOCH, &late_writer, |_| Some(LogEvent::Compacted(unborn)));
    assert!(!late.await.unwrap(), "what was condemned stands for something again");
    assert_eq!(prune(&log, None, 5, 10).await.deleted, 2);
    let name = object_name(names::long_segment(&source(), EPOCH, &unborn.id)).unwrap();
    let other = lifeboat_model::LongSegment { first: SegmentNumber(7), last: SegmentNumber(9), ..unborn };
    let publish = (Some(&name), |_: &LogState| Some(LogEvent::Compacted(other)));
    assert!(!log.commit_log_of(EPOCH, &late_writer, publish).await.unwrap(), "what was deleted stands for something");
    let left: Vec<_> =
        all_names(store.as_ref()).await.into_iter().filter(|name| name.as_str().contains("/long/")).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].as_str().ends_with(&day.id.to_string()));
    assert_eq!(commits(&log).await.len(), 9);
    is_clean(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_and_a_host_that_slept_meanwhile_find_out_and_lose_nothing() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 9, &["acme"], 10).await;
    let known = log.appender().await.unwrap().unwrap().known();
    let early = crate::KnownLog { number: SegmentNumber(2), ..known };
    prune(&log, begin(5), 0, 9).await;
    prune(&log, begin(5), 2, 10).await;
    assert!(log.compact(EPOCH, SegmentNumber(3)..=SegmentNumber(7), &writer()).await.unwrap().is_none());
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    log.check_known(&known).await.unwrap();
    log.check_known(&early).await.unwrap();
    // Who asks for what is gone is told, and reads nothing else in its place.
    let asked = log.segments(EPOCH, SegmentNumber(2)..=SegmentNumber(7)).await;
    assert!(matches!(asked, Err(Error::Damaged { .. })), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_commit_leaves_where_the_log_begins_to_the_one_before_it() {
    let (store, _, repository) = new_repository().await;
    let log = new_log(&repository, 9, &["acme"], 10).await;
    prune(&log, begin(5), 0, 9).await;
    prune(&log, begin(5), 2, 10).await;
    let head = log.log_head(EPOCH).await.unwrap();
    let name = object_name(names::log_commit(&source(), EPOCH, head.number)).unwrap();
    store.delete(&name).await.unwrap();
    store.create(&name, bytes::Bytes::from_static(b"not a commit")).await.unwrap();
    assert_eq!(log.kept(EPOCH).await.unwrap().first(), SegmentNumber(5));
    assert_eq!(commits(&log).await, [105, 106, 107, 108, 109]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_that_knows_of_no_pruning_has_forgotten_is_found_again() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 9, &["acme"], 10).await;
    prune(&log, begin(5), 0, 9).await;
    prune(&log, begin(5), 2, 10).await;
    prune(&log, begin(7), 2, 10).await;
    forget_pruning(&log).await;
    assert_eq!(log.kept(EPOCH).await.unwrap().begins, None);
    let found = prune(&log, begin(7), 2, 10).await;
    assert_eq!(found.condemned, 2, "5 and 6 wait again");
    assert_eq!(prune(&log, begin(7), 4, 11).await.deleted, 2);
    assert_eq!(commits(&log).await, [107, 108, 109]);
    is_clean(&log).await;
}

/// Compacts the newest two, with a commit as such a version writes it.
async fn forget_pruning(log: &ChangeLog) {
    let repository: &Repository = &log.repository;
    let head = log.log_head(EPOCH).await.unwrap();
    let number = LogCommitNumber(head.number.0 + 1);
    let long = {
        let other = log.compact(EPOCH, SegmentNumber(8)..=SegmentNumber(9), &writer()).await.unwrap().unwrap();
        other.long
    };
    let (published, _) = log.log_commit(EPOCH, number).await.unwrap();
    let state = head.state.without_pruning().after(&LogEvent::Compacted(long), number).unwrap();
    let commit = lifeboat_model::LogCommit { state, ..published };
    let body = lifeboat_format::encode_log_commit(repository.keys().object_keys(), &commit).unwrap();
    let name = object_name(names::log_commit(&source(), EPOCH, number)).unwrap();
    repository.store().delete(&name).await.unwrap();
    repository.store().create(&name, body.into()).await.unwrap();
}
