//! Compaction while everything goes wrong: killed anywhere, answers lost, two at once. What is read stays the same.

use std::sync::Arc;

use lifeboat_format::SecretKey;
use lifeboat_model::{EpochId, Fault, Faulty, SegmentNumber};
use lifeboat_repo::{CheckDepth, Compacted, Error};
use lifeboat_store::{MemoryStore, Retry, RetryPolicy, Store};
use lifeboat_testkit::fault_store::{Failure, FaultStore};

use crate::change_log::{new_log, open, read_all, writer};

const SEGMENTS: u64 = 6;

async fn compact(store: Arc<dyn Store>, master: &SecretKey, range: (u64, u64)) -> Result<Option<Compacted>, Error> {
    let log = open(store, master).await?;
    log.compact(EpochId(1), SegmentNumber(range.0)..=SegmentNumber(range.1), &writer()).await
}

/// The rows of both sites; facts that belong to none are joined, and told otherwise.
async fn rows(store: Arc<dyn Store>, master: &SecretKey) -> Vec<String> {
    let all = read_all(store, master).await.unwrap();
    all.into_iter().filter(|line| !line.starts_with("SharedFacts")).collect()
}

async fn expect_whole(store: Arc<MemoryStore>, master: &SecretKey, want: &[String], context: &str) {
    assert_eq!(rows(store.clone(), master).await, want, "{context}");
    let log = open(store, master).await.unwrap();
    let report = log.check(CheckDepth::ReadData { percent: 100, turn: 0 }, &[]).await.unwrap();
    assert_eq!(report.findings, [], "{context}");
}

async fn longs(store: Arc<dyn Store>, master: &SecretKey) -> Vec<(u64, u64)> {
    let state = open(store, master).await.unwrap().log_state(EpochId(1)).await.unwrap();
    state.long_segments.iter().map(|long| (long.first.0, long.last.0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_killed_at_any_operation_loses_nothing_and_can_be_run_again() {
    for operation in 1.. {
        for failure in [Failure::KillBefore, Failure::KillAfter] {
            let (memory, master) = new_log(SEGMENTS).await;
            let want = rows(memory.clone(), &master).await;
            compact(memory.clone(), &master, (1, 3)).await.unwrap().unwrap();
            let store = FaultStore::new(memory.clone());
            let faults = store.faults();
            faults.at(operation, failure);
            let ended = compact(Arc::new(store), &master, (1, SEGMENTS)).await;
            if !faults.is_killed() {
                assert!(ended.unwrap().is_some());
                assert!(operation > 10, "there are {operation} operations");
                println!("killed at {} operations", operation - 1);
                return;
            }
            let context = format!("killed at operation {operation}: {:?}", faults.calls().last());
            assert!(ended.is_err(), "{context}");
            expect_whole(memory.clone(), &master, &want, &context).await;
            compact(memory.clone(), &master, (1, SEGMENTS)).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            expect_whole(memory.clone(), &master, &want, &context).await;
            assert_eq!(longs(memory, &master).await, [(1, SEGMENTS)], "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_at_any_operation_of_a_compaction_is_told_from_another_compactor() {
    let quick = std::time::Duration::from_millis(1);
    let policy = RetryPolicy { delay_first: quick, delay_max: quick, ..RetryPolicy::default() };
    for retries in [false, true] {
        for operation in 1.. {
            let (memory, master) = new_log(SEGMENTS).await;
            let want = rows(memory.clone(), &master).await;
            let store = FaultStore::new(memory.clone());
            let faults = store.faults();
            faults.at(operation, Failure::Unclear);
            let store: Arc<dyn Store> = if retries { Arc::new(Retry::new(store, policy)) } else { Arc::new(store) };
            let ended = compact(store, &master, (1, SEGMENTS)).await;
            if faults.count() < operation {
                break;
            }
            let context = format!("retries: {retries}, operation {operation}: {:?}", faults.calls()[operation - 1]);
            match ended {
                Ok(compacted) => assert!(compacted.is_some(), "{context}: it took itself for another"),
                Err(error) => assert!(!retries && error.fault() == Fault::Retry, "{context}: {error}"),
            }
            expect_whole(memory.clone(), &master, &want, &context).await;
        }
    }
}

// Explains invariant: one-log-sequence
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_compact_one_is_published_and_what_is_read_stays_the_same() {
    let mut both = 0;
    for (one, other) in [((1, 6), (1, 6)), ((1, 4), (3, 6)), ((1, 3), (4, 6)), ((1, 6), (2, 3))] {
        for round in 0..10 {
            let (memory, master) = new_log(SEGMENTS).await;
            let want = rows(memory.clone(), &master).await;
            let run = |range| {
                let (memory, master) = (memory.clone(), master.clone());
                tokio::spawn(async move { compact(memory, &master, range).await })
            };
            let (by_one, by_other) = tokio::join!(run(one), run(other));
            let done = [by_one.unwrap().unwrap(), by_other.unwrap().unwrap()];
            let context = format!("{one:?} and {other:?}, round {round}: {done:?}");
            let published = done.iter().flatten().count();
            let are_apart = one.1 < other.0;
            // A range within the other may come first, and is then replaced.
            assert!(published == 1 || (published == 2 && (are_apart || other == (2, 3))), "{context}");
            both += usize::from(published == 2);
            let longs = longs(memory.clone(), &master).await;
            assert!(longs.iter().all(|long| [one, other].contains(long)) && !longs.is_empty(), "{context}: {longs:?}");
            expect_whole(memory, &master, &want, &context).await;
        }
    }
    assert!(both >= 10, "{both}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_log_commits_damaged_a_log_is_read_from_plain_segments() {
    let (memory, master) = new_log(SEGMENTS).await;
    let want = rows(memory.clone(), &master).await;
    compact(memory.clone(), &master, (1, SEGMENTS)).await.unwrap().unwrap();
    let commits: Vec<_> = memory.objects().into_keys().filter(|name| name.as_str().contains("/commit/")).collect();
    let commit = commits.iter().find(|name| name.as_str().starts_with("log/")).unwrap();
    memory.replace(commit, bytes::Bytes::from_static(b"rotten"));
    assert_eq!(rows(memory.clone(), &master).await, want);
    let log = open(memory, &master).await.unwrap();
    let report = log.check(CheckDepth::Structure, &[]).await.unwrap();
    assert_eq!(report.findings.iter().map(|one| one.object.as_str()).collect::<Vec<_>>(), [commit.as_str()]);
}
