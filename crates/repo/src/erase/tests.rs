use std::time::Duration;

use lifeboat_model::{CommitEvent, Hold, HoldId, HoldReason, RunNumber, SiteId, Timestamp};

use super::*;
use crate::tests::{content, new_repository, publish, read_all, writer};
use crate::{CheckDepth, Ingest, IngestOptions, PruneRules};

fn clock(day: i64, run: u64) -> TrustedNow {
    let now = Timestamp(Timestamp::now().0 + day * 86_400_000_000);
    TrustedNow { now, later: now, run: RunNumber(run) }
}

async fn open(repository: &Repository, site: &str) -> Site {
    repository.site(&SiteId::new(site).unwrap(), None).await.unwrap().unwrap()
}

// Explains invariant: erased-for-good
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_site_cannot_be_read_by_anybody_and_goes_on_under_a_key_of_its_own() {
    let (store, master, repository) = new_repository().await;
    let secret = content(1, 900_000);
    publish(&repository, "acme", &[("a", secret.clone())]).await;
    let other = publish(&repository, "beta", &[("b", content(2, 900_000))]).await;
    let everything: Vec<ObjectName> =
        store.list("", None, 1000).await.unwrap().into_iter().map(|listed| listed.name).collect();
    let kept: Vec<_> = futures_util::future::join_all(everything.iter().map(|name| store.get(name))).await;

    // Opened before, by somebody who is about to publish.
    let mut late = open(&repository, "acme").await;
    let ingest = Ingest::start(&late, IngestOptions::default()).await.unwrap();
    let new = crate::tests::new_snapshot(&ingest, &[("late", content(3, 500_000))]);
    let prepared = ingest.finish(&late, new).await.unwrap();

    let erased = open(&repository, "acme").await.erase("asked", &clock(0, 5), &writer()).await.unwrap();
    assert_eq!(erased.destroyed.len(), 2, "{erased:?}");
    let outcome = late.publish(&writer(), &prepared, |_, _| Ok(prepared.record.clone())).await;
    assert!(matches!(outcome, Err(Error::Erased { .. })), "{outcome:?}");

    // By a process that knows nothing from before.
    let repository = Repository::open(store.clone(), &master).await.unwrap();
    let site = open(&repository, "acme").await;
    assert_eq!((site.state().snapshots.len(), site.state().key), (0, KeyNumber(2)));
    let first = names::commit(&site.handle(), lifeboat_model::Generation(1));
    let body = store.get(&object_name(first).unwrap()).await.unwrap();
    let opened = lifeboat_format::decode_commit(site.keys(), lifeboat_model::Generation(1), &body);
    assert!(opened.is_err(), "the old commit opens under the new key");
    let report = site.check(CheckDepth::ReadData { percent: 100, turn: 0 }).await.unwrap();
    assert_eq!((report.findings.len(), report.commits), (0, 1), "{:?}", report.findings);

    // It comes back, and is somebody new.
    let again = publish(&repository, "acme", &[("a", secret.clone())]).await;
    assert_eq!(read_all(&repository, "acme", again).await, [("a".to_owned(), secret)]);
    let rules = PruneRules { grace: Duration::from_secs(86_400), unnamed: Duration::from_secs(86_400) };
    for (day, run) in [(2, 6), (4, 7), (6, 8)] {
        open(&repository, "acme").await.prune(&rules, &clock(day, run), &writer()).await.unwrap();
    }
    let left = store.list(&names::site_prefix(&site.handle()), None, 1000).await.unwrap();
    let packs = left.iter().filter(|listed| listed.name.as_str().contains("/pack/")).count();
    assert_eq!(packs, 1, "what could be opened no more is deleted: {left:?}");
    assert_eq!(read_all(&repository, "beta", other).await.len(), 1);

    // Somebody who kept all objects but the keys puts them back: they open nothing.
    for (name, body) in everything.iter().zip(kept) {
        if !name.as_str().contains("key") {
            let _ = store.create(name, body.unwrap()).await;
        }
    }
    assert_eq!(open(&repository, "acme").await.state().snapshots.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_site_is_not_erased_and_a_killed_erasure_is_finished_by_a_prune() {
    let (store, _, repository) = new_repository().await;
    publish(&repository, "acme", &[("a", content(1, 100))]).await;
    let hold = Hold { id: HoldId([1; 8]), reason: HoldReason::Asked, note: "legal".into(), placed_at: Timestamp(0) };
    let mut site = open(&repository, "acme").await;
    site.commit(&writer(), |_, _| Ok(CommitEvent::HoldPlaced(hold.clone()))).await.unwrap();
    let refused = open(&repository, "acme").await.erase("asked", &clock(0, 5), &writer()).await;
    assert!(matches!(refused, Err(Error::State(lifeboat_model::StateError::Held(_)))), "{refused:?}");
    assert_eq!(open(&repository, "acme").await.state().snapshots.len(), 1);
    site.commit(&writer(), |_, _| Ok(CommitEvent::HoldReleased { hold: hold.id })).await.unwrap();

    // The old key as it was, put back as if the process had died before it was destroyed.
    let old = object_name(names::site_key(&site.handle(), KeyNumber(1))).unwrap();
    let body = store.get(&old).await.unwrap();
    open(&repository, "acme").await.erase("asked", &clock(0, 5), &writer()).await.unwrap();
    store.create(&old, body).await.unwrap();
    // What was before can be opened yet, and that is said.
    let report = open(&repository, "acme").await.check(CheckDepth::Structure).await.unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.object.as_str()).collect::<Vec<_>>(), [old.as_str()]);
    let rules = PruneRules { grace: Duration::from_secs(86_400), unnamed: Duration::from_secs(86_400) };
    open(&repository, "acme").await.prune(&rules, &clock(0, 5), &writer()).await.unwrap();
    assert!(store.get(&old).await.is_err());
    assert!(open(&repository, "acme").await.keys_left().await.unwrap().is_empty());
}
