//! A change log in a store: appended, found, read by one site, and what is damage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use lifeboat_format::names;
use lifeboat_model::{
    ChangeKind, ChangedColumn, ChangedTable, ChangedValue, EpochFacts, EpochId, EpochReason, Fault, Faulty, Lsn,
    RowChange, SegmentNumber, SiteId, SourceKind, SourceName, Timestamp, TransactionHead, TransactionId,
};
use lifeboat_store::{MemoryStore, Meter, ObjectName, Store};

use super::*;
use crate::tests::{new_repository, writer};

mod erased;

pub(super) fn source() -> SourceName {
    SourceName::new("app").unwrap()
}

pub(super) fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

pub(super) fn facts(begins: u64) -> EpochFacts {
    EpochFacts {
        source: source(),
        kind: SourceKind::Postgres,
        system_identifier: "7300000000000000001".into(),
        timeline: 1,
        slot: "lifeboat_app".into(),
        database: "app".into(),
        begins: Lsn(begins),
        snapshot: "1:1:".into(),
        begun_at: Timestamp(1),
        why: EpochReason::First,
        note: String::new(),
        sound_till: None,
        partly: Vec::new(),
    }
}

pub(super) fn table() -> Arc<ChangedTable> {
    let column = |name: &str| ChangedColumn { name: name.into(), type_name: "text".into() };
    Arc::new(ChangedTable { name: "issues".into(), columns: vec![column("id"), column("body")], key: vec![0] })
}

pub(super) fn head(commit: u64) -> TransactionHead {
    TransactionHead { id: TransactionId(commit), commit: Lsn(commit), committed_at: Timestamp(commit as i64) }
}

pub(super) fn insert(id: u64, body_len: usize) -> RowChange {
    // Not compressible, so that lengths in the store are lengths here.
    let mut state = id;
    let body = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let body = body.take(body_len);
    RowChange::Insert { row: vec![ChangedValue::Text(id.to_string().into()), ChangedValue::Text(body.collect())] }
}

/// One transaction that inserts a row for each of these sites.
pub(super) fn draft(commit: u64, sites: &[&str], body_len: usize) -> SegmentDraft {
    let mut draft = SegmentDraft::new();
    for (sequence, name) in sites.iter().enumerate() {
        let place = (&head(commit), sequence as u64);
        draft.push(&site(name), place, &table(), &insert(commit, body_len)).unwrap();
    }
    draft
}

/// A log of `count` segments, each of one transaction of these sites.
pub(super) async fn new_log(repository: &Repository, count: u64, sites: &[&str], body_len: usize) -> ChangeLog {
    let log = ChangeLog::open(repository, &source()).await.unwrap();
    let mut appender = log.begin_epoch(facts(100), &writer()).await.unwrap();
    for number in 1..=count {
        appender.append(draft(100 + number, sites, body_len), Lsn(100 + number)).await.unwrap();
    }
    ChangeLog::open(repository, &source()).await.unwrap()
}

pub(super) async fn all_segments(log: &ChangeLog) -> Vec<ListedSegment> {
    let newest = log.newest().unwrap();
    log.segments(newest.epoch, SegmentNumber(1)..=newest.segment.unwrap().number).await.unwrap()
}

/// The commits at which a site's rows were inserted.
pub(super) async fn commits_of(log: &ChangeLog, name: &str) -> Result<Vec<u64>, Error> {
    let mut commits = Vec::new();
    let segments = all_segments(log).await;
    let site = site(name);
    let read = log.read_site(&site, segments, |head, change| {
        assert_eq!(change.table, table());
        commits.push(head.commit.0);
        Ok::<(), String>(())
    });
    let stats = read.await?.unwrap();
    assert_eq!(stats.changes, commits.len() as u64);
    Ok(commits)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_read_back_in_order_by_another_process() {
    let (store, master, repository) = new_repository().await;
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    assert_eq!(log.newest(), None);
    assert!(log.appender().await.unwrap().is_none());
    let mut appender = log.begin_epoch(facts(100), &writer()).await.unwrap();
    assert_eq!(appender.complete_till(), Lsn(100));
    appender.append(draft(101, &["acme", "beta"], 10), Lsn(101)).await.unwrap();
    // A transaction that goes on in the next segment, and a segment of nothing.
    let mut open = draft(102, &["acme"], 10);
    open.push(&site("acme"), (&head(102), 5), &table(), &insert(5, 10)).unwrap();
    appender.append(open, Lsn(101)).await.unwrap();
    let mut rest = SegmentDraft::new();
    rest.push(&site("acme"), (&head(102), 6), &table(), &insert(6, 10)).unwrap();
    appender.append(rest, Lsn(102)).await.unwrap();
    appender.append(SegmentDraft::new(), Lsn(200)).await.unwrap();

    let repository = Repository::open(store, &master).await.unwrap();
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    assert_eq!(log.newest().unwrap().segment.unwrap().number, SegmentNumber(4));
    assert_eq!(commits_of(&log, "acme").await.unwrap(), [101, 102, 102, 102]);
    assert_eq!(commits_of(&log, "beta").await.unwrap(), [101]);
    assert_eq!(commits_of(&log, "unknown").await.unwrap(), [0u64; 0]);
    let appender = log.appender().await.unwrap().unwrap();
    assert_eq!(appender.complete_till(), Lsn(200));
    assert_eq!(appender.epoch().facts, facts(100));
}

/// A capture and a restore are spawned: their futures must be able to move between threads.
#[allow(dead_code)] // that it compiles is the test
fn every_future_can_be_spawned(log: &ChangeLog, appender: &mut Appender) {
    fn is_send(_: impl Send) {}
    let acme = site("acme");
    is_send(log.read_site(&acme, Vec::new(), |_, _| Ok::<(), String>(())));
    is_send(log.read_blocks(Vec::new(), |_, _| Ok::<(), String>(())));
    is_send(log.footers(Vec::new()));
    is_send(log.begin_epoch(facts(1), &writer()));
    is_send(appender.append(SegmentDraft::new(), Lsn(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_counts_changes_by_transaction_site_and_table() {
    let (_, _, repository) = new_repository().await;
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    let mut appender = log.begin_epoch(facts(100), &writer()).await.unwrap();
    let mut draft = draft(101, &["acme", "beta", "acme"], 10);
    let hash = repository.keys().row_key_hash(&source(), "issues", &[ChangedValue::Text(b"9".to_vec())]);
    let unrouted = Unrouted { table: &table(), kind: ChangeKind::Delete, key: hash, change: None };
    draft.push_unrouted((&head(101), 3), unrouted).unwrap();
    draft.truncate((&head(102), 0), &["issues", "other"], true, false).unwrap();
    draft.note_transaction(&head(103)).unwrap();
    assert!(draft.push(&site("acme"), (&head(102), 9), &table(), &insert(1, 1)).is_err(), "commits ascend");
    let footer = appender.append(draft, Lsn(103)).await.unwrap().clone();
    let segment = log.newest_segment(EpochId(1)).await.unwrap().unwrap();
    let shared = log.shared(&segment, &footer).await.unwrap();
    assert_eq!(shared.sites, [site("acme"), site("beta")]);
    let counts: Vec<_> = shared.transactions.iter().map(|facts| (facts.head.commit.0, facts.unrouted)).collect();
    assert_eq!(counts, [(101, 1), (102, 0), (103, 0)]);
    let inserts: Vec<_> =
        shared.transactions[0].counts.iter().map(|count| (count.site, count.counts.inserts)).collect();
    assert_eq!(inserts, [(0, 2), (1, 1)]);
    assert_eq!(shared.truncations[0].tables.len(), 2);
    assert_eq!(log.unrouted(&segment, &footer).await.unwrap().changes[0].key, hash);
    let bounds = footer.span.bounds.unwrap();
    assert_eq!((bounds.first_commit, bounds.last_commit), (Lsn(101), Lsn(103)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_segment_is_found_by_two_listings_of_one_name_however_long_the_log_is() {
    let (store, master, repository) = new_repository().await;
    new_log(&repository, 30, &["acme"], 10).await;
    let meter = Meter::new(store);
    let meters = meter.meters();
    let repository = Repository::open(Arc::new(meter), &master).await.unwrap();
    let before = meters.snapshot();
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    let used = meters.snapshot().since(&before);
    assert_eq!((used.lists, used.requests()), (2, 2));
    log.footer(&log.newest().unwrap().segment.unwrap()).await.unwrap();
    assert_eq!(meters.snapshot().since(&before).requests(), 3, "a small footer is one read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_one_site_reads_footers_and_its_own_ranges_and_nothing_else() {
    let (store, master, repository) = new_repository().await;
    // A neighbour 200 times as busy.
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    let mut appender = log.begin_epoch(facts(100), &writer()).await.unwrap();
    let mut own_bytes = 0;
    for number in 1..=5 {
        let mut next = draft(100 + number, &["acme"], 1_000);
        next.push(&site("busy"), (&head(100 + number), 9), &table(), &insert(1, 200_000)).unwrap();
        let footer = appender.append(next, Lsn(100 + number)).await.unwrap();
        own_bytes += footer.block(&site("acme")).unwrap().place.len;
    }
    let meter = Meter::new(store);
    let meters = meter.meters();
    let repository = Repository::open(Arc::new(meter), &master).await.unwrap();
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    let segments = all_segments(&log).await;
    assert!(segments.iter().all(|segment| segment.len > 200_000));
    // The end of a segment is read in the hope that its footer is there: measured apart.
    let memory = Arc::new(MapFooters::default());
    let log = log.with_memory(memory.clone());
    for segment in &segments {
        log.footer(segment).await.unwrap();
    }
    assert_eq!(memory.0.lock().unwrap().len(), 5);
    let before = meters.snapshot();
    let acme = site("acme");
    let read = log.read_site(&acme, segments, |_, _| Ok::<(), String>(()));
    assert_eq!(read.await.unwrap().unwrap().bytes_read, own_bytes);
    let used = meters.snapshot().since(&before);
    // The epoch, five ranges, and the site's key.
    assert_eq!((used.range_gets, used.gets, used.lists), (5, 2, 0), "{used:?}");
    assert!(used.bytes_in < own_bytes + 2_000, "{used:?}");
}

/// Footers in a map, as a catalog would keep them.
#[derive(Default)]
struct MapFooters(Mutex<HashMap<String, Vec<u8>>>);

impl FooterMemory for MapFooters {
    fn recall(&self, object: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(object).cloned()
    }

    fn remember(&self, object: &str, end: &[u8]) {
        self.0.lock().unwrap().insert(object.to_owned(), end.to_vec());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_footer_that_is_remembered_wrongly_is_read_again() {
    let (_, _, repository) = new_repository().await;
    let memory = Arc::new(MapFooters::default());
    let log = new_log(&repository, 2, &["acme"], 10).await.with_memory(memory.clone());
    let segments = all_segments(&log).await;
    let footers = [log.footer(&segments[0]).await.unwrap(), log.footer(&segments[1]).await.unwrap()];
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| memory.0.lock().unwrap().values_mut().for_each(change);
    spoil(&|end| end[200] ^= 1);
    assert_eq!(log.footer(&segments[0]).await.unwrap(), footers[0]);
    spoil(&|end| end.truncate(3));
    assert_eq!(log.footer(&segments[1]).await.unwrap(), footers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_a_segment_take_one_request_and_what_is_remembered_none() {
    let (store, master, repository) = new_repository().await;
    let count = new_log(&repository, 20, &["acme", "beta"], 10).await;
    let segments = all_segments(&count).await;
    let meter = Meter::new(store);
    let meters = meter.meters();
    let repository = Repository::open(Arc::new(meter), &master).await.unwrap();
    let memory = Arc::new(MapFooters::default());
    let log = ChangeLog::open(&repository, &source()).await.unwrap().with_memory(memory.clone());
    let read =
        async || -> Vec<SegmentFacts> { log.facts(segments.clone()).await.unwrap().try_collect().await.unwrap() };
    let before = meters.snapshot();
    let facts = read().await;
    let used = meters.snapshot().since(&before);
    assert_eq!((used.range_gets, used.gets), (20, 1), "the epoch, and each segment's end: {used:?}");
    assert!(
        facts
            .iter()
            .all(|(segment, footer, shared)| { footer.number == segment.number && shared.transactions.len() == 1 })
    );
    let before = meters.snapshot();
    assert_eq!(read().await, facts);
    assert_eq!(meters.snapshot().since(&before).range_gets, 0);
    // What was changed on this host's disk is read again.
    memory.0.lock().unwrap().values_mut().for_each(|bytes| bytes[200] ^= 1);
    assert_eq!(read().await, facts);
}

/// Takes an object away or puts another in its place, as nothing of Lifeboat does.
pub(super) async fn replace(store: &Arc<dyn Store>, name: &str, body: Option<Bytes>) {
    let name = ObjectName::new(name).unwrap();
    store.delete(&name).await.unwrap();
    if let Some(body) = body {
        store.create(&name, body).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_segment_is_damage_and_named() {
    let (store, _, repository) = new_repository().await;
    let log = new_log(&repository, 5, &["acme"], 10).await;
    let all = all_segments(&log).await;
    let lost = log.object_of(&all[2]);
    replace(&store, &lost, None).await;
    let range = |from, till| log.segments(EpochId(1), SegmentNumber(from)..=SegmentNumber(till));
    for (from, till, is_whole) in
        [(1, 2, true), (4, 5, true), (4, 4, true), (1, 5, false), (3, 3, false), (2, 3, false)]
    {
        match range(from, till).await {
            Ok(found) => assert!(is_whole && found.len() as u64 == till - from + 1, "{from}..={till}"),
            Err(Error::Damaged { object, .. }) => assert!(!is_whole && object == lost, "{from}..={till}: {object}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(range(5, 6).await, Err(Error::Damaged { .. })), "what was never there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_newest_segments_or_epoch_is_found_out() {
    let (store, _, repository) = new_repository().await;
    let log = new_log(&repository, 3, &["acme"], 10).await;
    let appender = log.appender().await.unwrap().unwrap();
    let known = appender.known();
    log.check_known(&known).await.unwrap();
    let next = log.begin_epoch(facts(300), &writer()).await.unwrap().known();
    let reopened = ChangeLog::open(&repository, &source()).await.unwrap();
    reopened.check_known(&known).await.unwrap();
    reopened.check_known(&next).await.unwrap();
    let check = async |known: &KnownLog, what: &str| {
        let log = ChangeLog::open(&repository, &source()).await.unwrap();
        let error = log.check_known(known).await.unwrap_err();
        assert!(matches!(error, Error::LogRolledBack { .. }), "{what}: {error}");
        assert_eq!(error.fault(), Fault::Damage);
    };
    check(&KnownLog { id: ObjectId([9; 16]), ..known }, "another segment").await;
    check(&KnownLog { id: ObjectId([9; 16]), ..next }, "another epoch").await;
    replace(&store, &names::epoch(&source(), EpochId(2)), None).await;
    check(&next, "a lost epoch").await;
    // The segment that ended the first epoch, and the one before it.
    for number in [4, 3] {
        let lost = ListedSegment { epoch: EpochId(1), number: SegmentNumber(number), len: 0, long: None };
        replace(&store, &log.object_of(&lost), None).await;
    }
    check(&known, "a lost segment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_put_back_from_another_time_does_not_follow() {
    let (store, master, repository) = new_repository().await;
    let log = new_log(&repository, 2, &["acme"], 10).await;
    // Another history with the same numbers: as after a bucket was rolled back and written again.
    let other_store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for listed in store.list("", None, 1_000).await.unwrap() {
        if !listed.name.as_str().contains("/seg/") {
            other_store.create(&listed.name, store.get(&listed.name).await.unwrap()).await.unwrap();
        }
    }
    let other = Repository::open(other_store.clone(), &master).await.unwrap();
    let other = ChangeLog::open(&other, &source()).await.unwrap();
    let mut forked = other.appender().await.unwrap().unwrap();
    forked.append(draft(101, &["acme"], 10), Lsn(101)).await.unwrap();
    let all = all_segments(&log).await;
    let first = log.object_of(&all[0]);
    let body = other_store.get(&ObjectName::new(first.as_str()).unwrap()).await.unwrap();
    replace(&store, &first, Some(body)).await;
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    match commits_of(&log, "acme").await {
        Err(Error::Damaged { object, detail }) => {
            assert_eq!(object, log.object_of(&all[1]));
            assert!(detail.contains("does not follow"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_segment_of_another_history_neither_follows_this_one_nor_is_followed() {
    for (first, last) in [(1, 2), (3, 4)] {
        put_long_of_another_history(SegmentNumber(first)..=SegmentNumber(last)).await;
    }
}

async fn put_long_of_another_history(range: std::ops::RangeInclusive<SegmentNumber>) {
    let (store, master, repository) = new_repository().await;
    let log = new_log(&repository, 4, &["acme"], 10).await;
    let other_store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for listed in store.list("", None, 1_000).await.unwrap() {
        if !listed.name.as_str().contains("/seg/") {
            other_store.create(&listed.name, store.get(&listed.name).await.unwrap()).await.unwrap();
        }
    }
    let other = Repository::open(other_store.clone(), &master).await.unwrap();
    let other = ChangeLog::open(&other, &source()).await.unwrap();
    let mut forked = other.appender().await.unwrap().unwrap();
    for commit in 101..=104 {
        forked.append(draft(commit, &["acme"], 10), Lsn(commit)).await.unwrap();
    }
    let long = other.compact(EpochId(1), range, &writer()).await.unwrap().unwrap().long;
    let moved = [
        names::long_segment(&source(), EpochId(1), &long.id),
        names::log_commit(&source(), EpochId(1), lifeboat_model::LogCommitNumber(1)),
    ];
    for name in moved {
        let name = ObjectName::new(name).unwrap();
        store.create(&name, other_store.get(&name).await.unwrap()).await.unwrap();
    }
    match commits_of(&log, "acme").await {
        Err(Error::Damaged { detail, .. }) => assert!(detail.contains("does not follow"), "{detail}"),
        other => panic!("{other:?}"),
    }
    let report = log.check(crate::CheckDepth::Structure, &[]).await.unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].object.contains("/long/") && report.findings[0].detail.contains("begin and end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_is_named_with_its_site_and_place_and_others_are_read() {
    let (store, _, repository) = new_repository().await;
    let log = new_log(&repository, 2, &["acme", "beta"], 500).await;
    let segment = all_segments(&log).await[1];
    let place = log.footer(&segment).await.unwrap().block(&site("beta")).unwrap().place;
    let object = log.object_of(&segment);
    let mut body = store.get(&ObjectName::new(object.as_str()).unwrap()).await.unwrap().to_vec();
    body[place.offset as usize + 200] ^= 1;
    replace(&store, &object, Some(body.into())).await;
    assert_eq!(commits_of(&log, "acme").await.unwrap(), [101, 102]);
    match commits_of(&log, "beta").await {
        Err(Error::Damaged { object: named, detail }) => {
            assert_eq!(named, object);
            assert!(
                detail.contains("site=`beta`") && detail.contains(&format!("offset=`{}`", place.offset)),
                "{detail}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_ends_the_one_before_and_whoever_still_writes_there_stops() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 1, &["acme"], 10).await;
    let mut old = log.appender().await.unwrap().unwrap();
    let mut new = log.begin_epoch(facts(300), &writer()).await.unwrap();
    assert_eq!(new.epoch().id, EpochId(2));
    let error = old.append(draft(102, &["acme"], 10), Lsn(102)).await.unwrap_err();
    assert!(matches!(error, Error::LogFenced { number: SegmentNumber(2), .. }), "{error}");
    assert_eq!(error.fault(), Fault::Fenced);
    new.append(draft(301, &["acme"], 10), Lsn(301)).await.unwrap();
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    assert_eq!(commits_of(&log, "acme").await.unwrap(), [301]);
    let ended = log.newest_segment(EpochId(1)).await.unwrap().unwrap();
    assert_eq!(log.footer(&ended).await.unwrap().followed_by, Some(EpochId(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_epoch_is_never_part_of_a_long_segment() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 4, &["acme"], 10).await;
    log.begin_epoch(facts(300), &writer()).await.unwrap();
    let all = SegmentNumber(1)..=SegmentNumber(5);
    let long = log.compact(EpochId(1), all.clone(), &writer()).await.unwrap().unwrap().long;
    assert_eq!((long.first, long.last), (SegmentNumber(1), SegmentNumber(4)));
    // Till when the log lacks nothing is still there to be read.
    let read = log.segments(EpochId(1), all).await.unwrap();
    let footers: Vec<_> = log.footers(read).await.unwrap().map_ok(|(_, footer)| footer).try_collect().await.unwrap();
    assert_eq!(footers.iter().map(|footer| footer.followed_by).collect::<Vec<_>>(), [None, Some(EpochId(2))]);
    assert!(log.compact(EpochId(1), SegmentNumber(4)..=SegmentNumber(5), &writer()).await.unwrap().is_none());
    let old = Timestamp(Timestamp::now().0 + 86_400_000_000);
    assert!(
        ChangeLog::open(&repository, &source()).await.unwrap().compact_due(old, &writer()).await.unwrap().is_none()
    );
}
