//! `check` over a change log of which one object is damaged: found, named, with offset and site; nothing else is.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_format::SecretKey;
use lifeboat_format::names::{ParsedName, parse_object_name};
use lifeboat_model::{
    ChangeKind, ChangedColumn, ChangedTable, EpochId, Lsn, RowKeyHash, SegmentNumber, SiteId, Timestamp,
    TransactionHead, TransactionId,
};
use lifeboat_repo::{CheckDepth, LogCheckReport, LogFinding, SegmentDraft, Unrouted};
use lifeboat_store::{MemoryStore, ObjectName, Store};
use lifeboat_testkit::fault_store::{Damage, FaultStore};

use crate::change_log::{draft, facts, new_log, open, sites, writer};

const ALL: CheckDepth = CheckDepth::ReadData { percent: 100, turn: 0 };

/// Four segments, written again as two long ones, and the end of an epoch; and two segments of the next.
async fn two_epochs() -> (Arc<MemoryStore>, SecretKey) {
    let (store, master) = new_log(3).await;
    let log = open(store.clone(), &master).await.unwrap();
    let mut first = log.appender().await.unwrap().unwrap();
    first.append(unrouted(104), Lsn(104)).await.unwrap();
    let mut second = log.begin_epoch(facts(), &writer()).await.unwrap();
    second.append(draft(201, "second"), Lsn(201)).await.unwrap();
    second.append(draft(202, "second"), Lsn(202)).await.unwrap();
    for (first, last) in [(1, 2), (3, 4)] {
        let range = SegmentNumber(first)..=SegmentNumber(last);
        log.compact(EpochId(1), range, &writer()).await.unwrap().unwrap();
    }
    (store, master)
}

/// A deletion whose site nobody could tell, beside a row of each site.
fn unrouted(commit: u64) -> SegmentDraft {
    let mut draft = draft(commit, "first");
    let columns = vec![ChangedColumn { name: "id".into(), type_name: "text".into() }];
    let table = Arc::new(ChangedTable { name: "comments".into(), columns, key: vec![0] });
    let head = TransactionHead { id: TransactionId(commit), commit: Lsn(commit), committed_at: Timestamp(1) };
    let change = Unrouted { table: &table, kind: ChangeKind::Delete, key: RowKeyHash([7; 16]), change: None };
    draft.push_unrouted((&head, 9), change).unwrap();
    draft
}

async fn check(store: Arc<dyn Store>, master: &SecretKey, only: &[SiteId]) -> LogCheckReport {
    open(store, master).await.unwrap().check(ALL, only).await.unwrap()
}

fn log_objects(store: &MemoryStore) -> Vec<(ObjectName, usize)> {
    let objects = store.objects().into_iter().filter(|(name, _)| name.as_str().starts_with("log/"));
    objects.map(|(name, body)| (name, body.len())).collect()
}

/// The check with one object damaged.
async fn damaged(
    (store, master): (&Arc<MemoryStore>, &SecretKey),
    (name, damage): (&ObjectName, Damage),
    only: &[SiteId],
) -> Vec<LogFinding> {
    let store = FaultStore::new(store.clone());
    store.faults().damage(name, damage);
    check(Arc::new(store), master, only).await.findings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_log_is_whole_and_all_of_it_is_read() {
    let (store, master) = two_epochs().await;
    let report = check(store.clone(), &master, &[]).await;
    assert_eq!(report.findings, []);
    assert_eq!((report.epochs, report.segments, report.objects), (2, 9, 13));
    let once = 2 + 1; // two sites, and the shared block
    assert_eq!(report.blocks_read, (6 + 2) * once + 2, "six segments, two long ones, and of each one is unrouted");
    let all: usize = log_objects(&store).iter().map(|(_, len)| len).sum();
    assert!(report.bytes_read as usize > all / 2, "{} of {all}", report.bytes_read);
}

// Explains invariant: log-damage-is-named
#[tokio::test(flavor = "multi_thread")]
async fn each_byte_of_each_object_of_a_log_that_rots_is_found_by_a_check() {
    let (store, master) = two_epochs().await;
    let mut flips = 0;
    for (name, len) in log_objects(&store) {
        // Every byte of the last one of an epoch, which is all footer; of the others some.
        let step = if len < 700 { 1 } else { 13 };
        for at in (0..len).step_by(step) {
            let found = damaged((&store, &master), (&name, Damage::Flip { at, mask: 0x10 }), &[]).await;
            assert!(!found.is_empty(), "byte {at} of {name} is not found");
            for finding in &found {
                assert_eq!(finding.object, name.as_str(), "byte {at}: {finding:?}");
            }
            flips += 1;
        }
    }
    println!("{flips} flips, all of them found");
    assert!(flips > 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_block_names_its_offset_and_whose_it_is_and_no_other() {
    let (store, master) = two_epochs().await;
    let log = open(store.clone(), &master).await.unwrap();
    let segments = log.segments(EpochId(1), SegmentNumber(1)..=SegmentNumber(4)).await.unwrap();
    assert_eq!(segments.len(), 2, "long ones are named like plain ones");
    for segment in &segments {
        let name = ObjectName::new(log.object_of(segment)).unwrap();
        for block in log.footer(segment).await.unwrap().blocks {
            let at = (block.place.offset + block.place.len / 2) as usize;
            let rot = || Damage::Flip { at, mask: 1 };
            let found = damaged((&store, &master), (&name, rot()), &[]).await;
            let [finding] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((finding.offset, finding.site.as_ref()), (Some(block.place.offset), Some(&block.site)));
            // Whoever checks one site finds what is its own.
            for site in sites() {
                let found = damaged((&store, &master), (&name, rot()), std::slice::from_ref(&site)).await;
                assert_eq!(found.len(), usize::from(site == block.site), "{site}: {found:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_of_a_log_that_is_lost_cut_or_another_is_found_by_a_check() {
    let (store, master) = two_epochs().await;
    let objects = log_objects(&store);
    let is_newest = |name: &ObjectName| match parse_object_name(name.as_str()) {
        Some(ParsedName::Segment(segment)) => segment.epoch == EpochId(2) && segment.number == SegmentNumber(2),
        // Without it the plain segments are read: nothing is lost.
        Some(ParsedName::LogCommit(_, _, number)) => number.0 == 2,
        _ => false,
    };
    for (name, len) in &objects {
        let cut = damaged((&store, &master), (name, Damage::Truncate { len: len / 2 }), &[]).await;
        assert!(cut.iter().any(|finding| finding.object == name.as_str()), "{name}: {cut:?}");
        // What is lost at the very end of a log is known by whoever captures, not by the log.
        if !is_newest(name) {
            let lost = damaged((&store, &master), (name, Damage::Drop), &[]).await;
            assert!(!lost.is_empty(), "{name}");
        }
        for (other, _) in objects.iter().filter(|(other, _)| other != name) {
            let swapped = MemoryStore::new();
            for (each, body) in store.objects() {
                swapped.replace(&each, body);
            }
            swapped.replace(name, store.objects()[other].clone());
            let found = check(Arc::new(swapped), &master, &[]).await.findings;
            let named: BTreeSet<&str> = found.iter().map(|finding| finding.object.as_str()).collect();
            assert!(named.contains(name.as_str()), "{name} is {other}: {found:?}");
        }
    }
}
