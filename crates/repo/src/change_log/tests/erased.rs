//! What an erasure of a site means for a log that goes on.

use lifeboat_model::{CommitEvent, Fault, Faulty, Hold, HoldId, HoldReason, KeyNumber, RunNumber, SiteHandle};

use super::*;
use crate::TrustedNow;
use crate::tests::{content, publish};

const HOUR: i64 = 3_600_000_000;

fn clock() -> TrustedNow {
    TrustedNow { now: Timestamp::now(), later: Timestamp::now(), run: RunNumber(5) }
}

/// A repository with a snapshot of acme, and the same as another process opens it.
async fn two_hosts() -> (Arc<dyn Store>, Repository, Repository) {
    let (store, master, repository) = new_repository().await;
    publish(&repository, "acme", &[("a", content(1, 100))]).await;
    let other = Repository::open(store.clone(), &master).await.unwrap();
    (store, repository, other)
}

async fn erase(repository: &Repository) -> Result<(), Error> {
    let mut acme = repository.site(&site("acme"), None).await.unwrap().unwrap();
    acme.erase("asked", &clock(), &writer()).await.map(|_| ())
}

async fn append(appender: &mut Appender, commit: u64, after: i64) {
    let sealed_at = Timestamp(Timestamp::now().0 + after);
    appender.append_as_of(draft(commit, &["acme"], 10), Lsn(commit), sealed_at).await.unwrap();
}

/// Of each segment, whether somebody who has nothing but the store can read what it holds of acme.
async fn readable(repository: &Repository) -> Vec<bool> {
    let fresh = repository.over(repository.store().clone());
    fresh.forget_keys(fresh.handle_of(&site("acme")));
    let log = ChangeLog::open(&fresh, &source()).await.unwrap();
    let mut all = Vec::new();
    for segment in all_segments(&log).await {
        let read = log.read_site(&site("acme"), vec![segment], |_, _| Ok::<(), String>(())).await;
        if let Err(error) = &read {
            assert!(matches!(error, Error::Erased { .. }) || error.fault() == Fault::Damage, "{error}");
        }
        all.push(read.is_ok());
    }
    all
}

async fn keys_there(repository: &Repository) -> Vec<u32> {
    let handle: SiteHandle = repository.handle_of(&site("acme"));
    let keys = repository.list_all(&names::site_keys_prefix(&handle)).await.unwrap();
    keys.iter().filter_map(|name| names::parse_key_number(name.as_str())).map(|(_, number)| number.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_goes_on_learns_of_an_erasure() {
    let (_, host, other) = two_hosts().await;
    let log = ChangeLog::open(&host, &source()).await.unwrap();
    let mut appender = log.begin_epoch(facts(100), &writer()).await.unwrap();
    append(&mut appender, 101, 0).await;
    erase(&other).await.unwrap();
    append(&mut appender, 102, HOUR / 2).await;
    append(&mut appender, 103, 2 * HOUR).await;
    append(&mut appender, 104, 2 * HOUR).await;
    assert_eq!(readable(&other).await, [false, false, true, true]);
    // At once, where somebody has a reason to ask.
    erase(&other).await.unwrap();
    host.doubt_key_of(&site("acme"));
    append(&mut appender, 105, 2 * HOUR).await;
    assert_eq!(readable(&other).await, [false, false, false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_by_the_key_of_an_erasure_that_came_to_nothing_is_erased_by_the_next() {
    let (_, host, other) = two_hosts().await;
    let hold = Hold { id: HoldId([1; 8]), reason: HoldReason::Asked, note: "legal".into(), placed_at: Timestamp(0) };
    let mut acme = other.site(&site("acme"), None).await.unwrap().unwrap();
    acme.commit(&writer(), |_, _| Ok(CommitEvent::HoldPlaced(hold.clone()))).await.unwrap();
    new_log(&host, 2, &["acme"], 10).await;
    erase(&other).await.unwrap_err();
    assert_eq!(keys_there(&other).await, [1, 2]);
    // Nothing was erased: what is sealed by either key is written again as one, and lost by nobody.
    host.doubt_key_of(&site("acme"));
    let log = ChangeLog::open(&host, &source()).await.unwrap();
    append(&mut log.appender().await.unwrap().unwrap(), 103, 0).await;
    let log = ChangeLog::open(&other, &source()).await.unwrap();
    log.compact(EpochId(1), SegmentNumber(1)..=SegmentNumber(3), &writer()).await.unwrap().unwrap();
    assert_eq!(commits_of(&log, "acme").await.unwrap(), [101, 102, 103]);

    acme.commit(&writer(), |_, _| Ok(CommitEvent::HoldReleased { hold: hold.id })).await.unwrap();
    erase(&other).await.unwrap();
    assert_eq!(keys_there(&other).await, [3]);
    assert_eq!(readable(&other).await, [false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_being_erased_is_written_again_by_a_key_that_stays() {
    let (store, host, other) = two_hosts().await;
    let handle = host.handle_of(&site("acme"));
    let log = new_log(&host, 4, &["acme"], 10).await;
    // The next key is there, and the commit is not.
    other.make_site_keys(handle, KeyNumber(2)).await.unwrap();
    let fresh = ChangeLog::open(&other, &source()).await.unwrap();
    fresh.compact(EpochId(1), SegmentNumber(1)..=SegmentNumber(2), &writer()).await.unwrap().unwrap();
    let old = ObjectName::new(names::site_key(&handle, KeyNumber(1))).unwrap();
    let body = store.get(&old).await.unwrap();
    store.delete(&old).await.unwrap();
    store.delete(&ObjectName::new(names::site_key_copy(&handle, KeyNumber(1))).unwrap()).await.unwrap();
    assert_eq!(readable(&other).await, [false, false, false], "all of it is sealed by the first key");
    // Nothing says that it was erased: a key that is lost is damage, and named.
    let third = other.over(store.clone());
    third.forget_keys(handle);
    let lost = commits_of(&ChangeLog::open(&third, &source()).await.unwrap(), "acme").await;
    assert!(matches!(&lost, Err(error) if error.fault() == Fault::Damage), "{lost:?}");
    // The commit is there, and the first key still is.
    store.create(&old, body.clone()).await.unwrap();
    erase(&other).await.unwrap();
    store.create(&old, body).await.unwrap();
    append(&mut log.appender().await.unwrap().unwrap(), 105, 3 * HOUR).await;
    let fresh = ChangeLog::open(&other, &source()).await.unwrap();
    fresh.compact(EpochId(1), SegmentNumber(1)..=SegmentNumber(5), &writer()).await.unwrap().unwrap();
    assert_eq!(commits_of(&fresh, "acme").await.unwrap(), [105]);
}
