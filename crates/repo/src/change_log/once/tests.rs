//! What several sites want of a log: read once, forgotten where it is wrong, and never another site's.

use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use lifeboat_model::{EpochId, Fault, Faulty, Lsn, SegmentNumber, Timestamp};
use lifeboat_store::{Listed, Meter, ObjectName, Remember, Remembered, Store};

use super::super::tests::{all_segments, commits_of, draft, facts, new_log, site, source};
use super::*;
use crate::tests::{new_repository, writer};
use crate::{ChangeLog, CheckDepth, Error, Repository, SegmentDraft};

// Explains invariant: asked-sites
#[tokio::test(flavor = "multi_thread")]
async fn what_several_sites_want_of_a_segment_is_read_once_and_nothing_of_the_others_is_given() {
    let (store, master, repository) = new_repository().await;
    let names = ["acme", "beta", "gamma", "zeta"];
    new_log(&repository, 6, &names, 3_000).await;
    let meter = Meter::new(store);
    let meters = meter.meters();
    let repository = Repository::open(Arc::new(meter), &master).await.unwrap();
    let asked: BTreeSet<SiteId> = ["acme", "beta", "zeta"].map(site).into();
    let gets = async |once: Option<Arc<ReadOnce>>| {
        let before = meters.snapshot();
        for name in ["acme", "beta", "zeta"] {
            let log = ChangeLog::open(&repository, &source()).await.unwrap().with_once(once.clone());
            assert_eq!(commits_of(&log, name).await.unwrap(), [101, 102, 103, 104, 105, 106], "{name}");
        }
        let used = meters.snapshot().since(&before);
        used.requests() - used.lists
    };
    gets(None).await; // the keys are known from here on
    let alone = gets(None).await;
    let once = Arc::new(ReadOnce::new(asked.clone(), 1 << 20));
    let together = gets(Some(Arc::clone(&once))).await;
    // Six footers and six runs, and three times the epoch.
    assert_eq!(together, 6 + 6 + 3, "alone: {alone}");
    assert!(alone >= 3 * (6 + 6), "{alone}");
    let log = ChangeLog::open(&repository, &source()).await.unwrap().with_once(Some(once));
    for segment in all_segments(&log).await {
        assert!(log.footer(&segment).await.unwrap().block(&site("gamma")).is_none(), "nobody has asked for it");
    }
    // Where there is no room each reads for itself, and all is the same.
    let small = Arc::new(ReadOnce::new(asked, 100));
    assert_eq!(gets(Some(small)).await, alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_together_is_let_go_when_each_had_its_own() {
    let (_, _, repository) = new_repository().await;
    new_log(&repository, 3, &["acme", "beta"], 3_000).await;
    let once = Arc::new(ReadOnce::new(["acme", "beta"].map(site).into(), 1 << 20));
    let log = ChangeLog::open(&repository, &source()).await.unwrap().with_once(Some(Arc::clone(&once)));
    for _ in 0..2 {
        commits_of(&log, "acme").await.unwrap();
        assert_eq!(once.runs_held(), 3, "they are kept for the other one, however often this one reads");
    }
    commits_of(&log, "beta").await.unwrap();
    assert_eq!(once.runs_held(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_run_goes_where_there_is_no_more_room_and_nobody_reads_it_together_again() {
    let (store, master, repository) = new_repository().await;
    new_log(&repository, 4, &["acme", "beta"], 30_000).await;
    let meter = Meter::new(store);
    let meters = meter.meters();
    let repository = Repository::open(Arc::new(meter), &master).await.unwrap();
    // For one run of 60 kB, and all footers.
    let once = Arc::new(ReadOnce::new(["acme", "beta"].map(site).into(), 160 << 10));
    let log = ChangeLog::open(&repository, &source()).await.unwrap().with_once(Some(Arc::clone(&once)));
    let read = async |name| {
        let before = meters.snapshot();
        assert_eq!(commits_of(&log, name).await.unwrap(), [101, 102, 103, 104]);
        meters.snapshot().since(&before)
    };
    let first = read("acme").await;
    assert!(first.bytes_in > 60_000, "{first:?}");
    assert_eq!(once.runs_held(), 1);
    let second = read("beta").await;
    assert!(second.bytes_in < 4 * 31_000, "its own alone, and of the run that is there nothing: {second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_for_some_sites_is_of_no_use_for_others_or_for_all() {
    let (_, _, repository) = new_repository().await;
    let log = new_log(&repository, 3, &["acme", "beta"], 100).await;
    let range = SegmentNumber(1)..=SegmentNumber(3);
    let own = log.footer(&all_segments(&log).await[0]).await.unwrap().block(&site("beta")).cloned().unwrap();
    let log = log.with_once(Some(Arc::new(ReadOnce::new([site("acme")].into(), 1 << 20))));
    assert_eq!(commits_of(&log, "acme").await.unwrap(), [101, 102, 103]);
    let block = crate::SegmentBlock { segment: all_segments(&log).await[0], block: own };
    let refused = [
        commits_of(&log, "beta").await.unwrap_err(),
        log.read_blocks(vec![block], |_, _| Ok::<(), String>(())).await.unwrap_err(),
        log.check(CheckDepth::Structure, &[]).await.unwrap_err(),
        log.compact(EpochId(1), range.clone(), &writer()).await.unwrap_err(),
        log.compact_due(Timestamp::now(), &writer()).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.fault(), Fault::Bug, "{error}");
    }
    log.with_once(None).compact(EpochId(1), range, &writer()).await.unwrap().unwrap();
}

/// Spoils one answer on its way.
#[derive(Debug)]
struct Spoiling {
    store: Arc<dyn Store>,
    what: AtomicU8,
}

const BODY: u8 = 1;
const LISTING: u8 = 2;
const RUN: u8 = 3;
const LISTED_LEN: u8 = 4;

impl Spoiling {
    fn is_now(&self, what: u8) -> bool {
        self.what.compare_exchange(what, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

fn spoiled(bytes: Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.into()
}

#[async_trait]
impl Store for Spoiling {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), lifeboat_store::Error> {
        self.store.create(name, body).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, lifeboat_store::Error> {
        let body = self.store.get(name).await?;
        let spoils = name.as_str().starts_with("log/") && self.is_now(BODY);
        Ok(if spoils { spoiled(body) } else { body })
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, lifeboat_store::Error> {
        let body = self.store.get_range(name, range).await?;
        Ok(if body.len() > 700_000 && self.is_now(RUN) { spoiled(body) } else { body })
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<Listed>, lifeboat_store::Error> {
        let mut listed = self.store.list(prefix, after, limit).await?;
        if listed.len() > 2 && self.is_now(LISTING) {
            listed.remove(1);
        }
        if listed.len() > 2 && self.is_now(LISTED_LEN) {
            listed[1].len -= 1;
        }
        Ok(listed)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), lifeboat_store::Error> {
        self.store.delete(name).await
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spoiled_on_its_way_is_forgotten_and_read_once_more() {
    let (store, master, repository) = new_repository().await;
    new_log(&repository, 5, &["acme"], 100).await;
    for (what, heals_at_once) in [(BODY, true), (LISTING, true), (LISTED_LEN, false)] {
        let spoiling = Arc::new(Spoiling { store: Arc::clone(&store), what: AtomicU8::new(what) });
        let remembered = Arc::new(Remembered::new("log/", 1 << 20));
        let remembering = Remember::new(Arc::clone(&spoiling), remembered);
        let repository = Repository::open(Arc::new(remembering), &master).await.unwrap();
        let read = async || {
            let once = Arc::new(ReadOnce::new([site("acme")].into(), 1 << 20));
            let log = ChangeLog::open(&repository, &source()).await?.with_once(Some(once));
            let (newest, mut commits) = (log.newest().unwrap(), Vec::new());
            let segments = log.segments(newest.epoch, SegmentNumber(1)..=newest.segment.unwrap().number).await?;
            let visit = |head: &lifeboat_model::TransactionHead, _| {
                commits.push(head.commit.0);
                Ok::<(), String>(())
            };
            log.read_site(&site("acme"), segments, visit).await?.unwrap();
            Ok::<_, Error>(commits)
        };
        let first = read().await;
        assert_eq!(spoiling.what.load(Ordering::SeqCst), 0, "{what}: nothing was spoiled");
        match heals_at_once {
            true => assert_eq!(first.unwrap(), [101, 102, 103, 104, 105], "{what}"),
            false => assert_eq!(first.unwrap_err().fault(), Fault::Damage, "{what}"),
        }
        assert_eq!(read().await.unwrap(), [101, 102, 103, 104, 105], "{what}: the next one sees it as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_was_spoiled_among_others_is_read_alone_and_nothing_of_it_is_handed_on_twice() {
    let (store, master, repository) = new_repository().await;
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    let mut appender = log.begin_epoch(facts(100), &writer()).await.unwrap();
    let mut large = SegmentDraft::new();
    let head = super::super::tests::head(101);
    // Three frames, of which the second is spoiled.
    for sequence in 0..60 {
        let row = super::super::tests::insert(sequence, 40_000);
        large.push(&site("acme"), (&head, sequence), &super::super::tests::table(), &row).unwrap();
    }
    let row = super::super::tests::insert(9, 100);
    large.push(&site("beta"), (&head, 99), &super::super::tests::table(), &row).unwrap();
    appender.append(large, Lsn(101)).await.unwrap();
    let spoiling = Arc::new(Spoiling { store, what: AtomicU8::new(RUN) });
    let repository = Repository::open(Arc::clone(&spoiling) as Arc<dyn Store>, &master).await.unwrap();
    let once = Arc::new(ReadOnce::new(["acme", "beta"].map(site).into(), 16 << 20));
    let log = ChangeLog::open(&repository, &source()).await.unwrap().with_once(Some(once));
    let (mut sequences, segments) = (Vec::new(), all_segments(&log).await);
    let visit = |_: &lifeboat_model::TransactionHead, change: lifeboat_model::SiteChange| {
        sequences.push(change.sequence);
        Ok::<(), String>(())
    };
    let stats = log.read_site(&site("acme"), segments, visit).await.unwrap().unwrap();
    assert_eq!(spoiling.what.load(Ordering::SeqCst), 0, "nothing was spoiled");
    assert_eq!(sequences, (0..60).collect::<Vec<u64>>());
    assert_eq!((stats.changes, stats.blocks), (60, 1));
    assert_eq!(commits_of(&log, "beta").await.unwrap(), [101]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_begins_meanwhile_is_seen_and_how_the_one_before_it_ended() {
    let (store, master, repository) = new_repository().await;
    let log = new_log(&repository, 2, &["acme"], 100).await;
    let remembering = Remember::new(store, Arc::new(Remembered::new("log/", 1 << 20)));
    let other = Repository::open(Arc::new(remembering), &master).await.unwrap();
    let open = async || ChangeLog::open(&other, &source()).await.unwrap();
    assert_eq!(open().await.newest().unwrap().epoch, EpochId(1));
    let mut new = log.begin_epoch(facts(300), &writer()).await.unwrap();
    new.append(draft(301, &["acme"], 10), Lsn(301)).await.unwrap();
    let seen = open().await;
    assert_eq!(commits_of(&seen, "acme").await.unwrap(), [301]);
    let ended = seen.newest_segment(EpochId(1)).await.unwrap().unwrap();
    assert_eq!(seen.footer(&ended).await.unwrap().followed_by, Some(EpochId(2)));
}
