use std::time::Duration;

use lifeboat_model::{CommitEvent, Forgotten, Hold, HoldId, HoldReason, RunNumber, SiteId, SnapshotId, Timestamp};
use lifeboat_store::{MemoryStore, Store};

use super::*;
use crate::tests::{content, new_repository, publish, read_all, writer};
use crate::{Ingest, IngestOptions, Repository};

#[allow(clippy::print_stdout)] // how much was tried is what the test is worth
mod interleavings;

const DAY: i64 = 86_400_000_000;
const RULES: PruneRules = PruneRules { grace: Duration::from_secs(86_400), unnamed: Duration::from_secs(86_400) };

/// Day 0 is today: what a test stores is created today.
fn clock(day: i64, run: u64) -> TrustedNow {
    let now = Timestamp(Timestamp::now().0 + day * DAY);
    TrustedNow { now, later: now, run: RunNumber(run) }
}

async fn open(repository: &Repository) -> Site {
    repository.site(&SiteId::new("acme").unwrap(), None).await.unwrap().unwrap()
}

/// Forgets points, with no time left to undelete them.
async fn forget(repository: &Repository, snapshots: &[SnapshotId]) {
    let at = Timestamp::now();
    let (snapshots, forgotten) = (snapshots.to_vec(), Forgotten { at, till: at });
    let event = CommitEvent::Forgot { snapshots, forgotten, reason: "a test".into() };
    open(repository).await.commit(&writer(), |_, _| Ok(event.clone())).await.unwrap();
}

async fn prune(repository: &Repository, day: i64, run: u64) -> Pruned {
    open(repository).await.prune(&RULES, &clock(day, run), &writer()).await.unwrap()
}

/// Two points that share one file; each has one of its own beside it.
async fn two_points() -> (std::sync::Arc<dyn lifeboat_store::Store>, Repository, [SnapshotId; 2]) {
    let (store, _, repository) = new_repository().await;
    let shared = content(1, 600_000);
    let first = publish(&repository, "acme", &[("own", content(2, 700_000)), ("shared", shared.clone())]).await;
    let second = publish(&repository, "acme", &[("other", content(3, 800_000)), ("shared", shared)]).await;
    (store, repository, [first, second])
}

// Explains invariant: only-the-condemned
#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_point_goes_after_its_time_and_takes_only_what_no_other_needs() {
    let (store, repository, [first, second]) = two_points().await;
    // A third one that nothing shares with.
    let third = publish(&repository, "acme", &[("alone", content(4, 900_000))]).await;
    assert!(prune(&repository, 40, 9).await.plan.is_nothing(), "nothing is forgotten");
    forget(&repository, &[first, third]).await;
    let objects = store.list("sites/", None, 1000).await.unwrap().len();

    let condemned = prune(&repository, 1, 9).await;
    // Two manifests, the pack of the third point, and the three segments in whose place there is one now. The pack of the
    // first has the shared file in it.
    let what = &condemned.plan.condemn;
    assert_eq!((what.manifests.len(), what.packs.len(), condemned.deleted), (2, 1, 0), "{what:?}");
    let state = open(&repository).await.state().clone();
    assert_eq!((state.indexes.len(), state.forgotten.len(), state.snapshots.len()), (1, 0, 1));
    assert_eq!(state.condemned[0].objects.indexes.len(), 3);

    // Neither time alone nor a run alone deletes anything.
    assert_eq!(prune(&repository, 30, 9).await.deleted, 0);
    assert_eq!(prune(&repository, 1, 10).await.deleted, 0);
    assert_eq!(prune(&repository, 3, 10).await.deleted, 6);
    assert!(prune(&repository, 30, 11).await.plan.is_nothing());
    let left = store.list("sites/", None, 1000).await.unwrap();
    // Two commits more since (condemned, deleted), and the new segment; six objects less.
    assert_eq!(left.len(), objects + 2 + 1 - 6);
    assert_eq!(read_all(&repository, "acme", second).await.len(), 2);
    let report = open(&repository).await.check(crate::CheckDepth::ReadData { percent: 100, turn: 0 }).await.unwrap();
    assert_eq!((report.findings.len(), report.unnamed_objects), (0, 0), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_would_use_what_was_condemned_is_told_so_and_stores_it_anew() {
    for deletes in [false, true] {
        let (_, repository, [first, second]) = two_points().await;
        let third = publish(&repository, "acme", &[("alone", content(4, 900_000))]).await;
        // It knows of the third point's pack, and has not committed yet.
        let mut late = open(&repository).await;
        let ingest = Ingest::start(&late, IngestOptions::default()).await.unwrap();
        let new = crate::tests::new_snapshot(&ingest, &[("again", content(4, 900_000))]);
        let prepared = ingest.finish(&late, new).await.unwrap();
        forget(&repository, &[third]).await;
        assert!(prune(&repository, 1, 9).await.condemned > 0);
        if deletes {
            assert!(prune(&repository, 3, 10).await.deleted > 0);
        }
        let outcome = late.publish(&writer(), &prepared, |_, _| Ok(prepared.record.clone())).await;
        assert!(matches!(outcome, Err(Error::CondemnedMeanwhile { .. })), "{deletes}: {outcome:?}");
        let again = publish(&repository, "acme", &[("again", content(4, 900_000))]).await;
        prune(&repository, 30, 20).await;
        prune(&repository, 60, 30).await;
        for snapshot in [first, second, again] {
            read_all(&repository, "acme", snapshot).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_no_commit_names_goes_in_the_end_and_never_under_its_writers_feet() {
    let (_, repository, [first, _]) = two_points().await;
    let mut late = open(&repository).await;
    let ingest = Ingest::start(&late, IngestOptions::default()).await.unwrap();
    let new = crate::tests::new_snapshot(&ingest, &[("late", content(5, 900_000))]);
    let prepared = ingest.finish(&late, new).await.unwrap();
    assert!(prune(&repository, 0, 9).await.plan.is_nothing(), "it may be under way still");
    let condemned = prune(&repository, 2, 9).await;
    let what = &condemned.plan.condemn;
    assert_eq!((what.manifests.len(), what.indexes.len(), what.packs.len()), (1, 1, 1));
    let outcome = late.publish(&writer(), &prepared, |_, _| Ok(prepared.record.clone())).await;
    assert!(matches!(outcome, Err(Error::CondemnedMeanwhile { .. })), "{outcome:?}");
    assert_eq!(prune(&repository, 4, 10).await.deleted, 3);
    read_all(&repository, "acme", first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_site_and_one_with_damage_are_left_alone_and_foreign_names_always() {
    let (store, repository, [first, _]) = two_points().await;
    forget(&repository, &[first]).await;
    let hold =
        Hold { id: HoldId([1; 8]), reason: HoldReason::Asked, note: "legal".into(), placed_at: Timestamp::now() };
    let mut site = open(&repository).await;
    site.commit(&writer(), |_, _| Ok(CommitEvent::HoldPlaced(hold.clone()))).await.unwrap();
    let held = prune(&repository, 30, 9).await;
    assert!(matches!(&held.plan.block, Some(PruneBlock::Held(by)) if *by == hold), "{held:?}");
    site.commit(&writer(), |_, _| Ok(CommitEvent::HoldReleased { hold: hold.id })).await.unwrap();

    let prefix = names::site_prefix(&site.handle());
    let foreign = object_name(format!("{prefix}pack/notes.txt")).unwrap();
    store.create(&foreign, "mine".into()).await.unwrap();
    let facts = open(&repository).await.prune_facts(&clock(30, 9)).await.unwrap();
    assert_eq!(facts.foreign, [foreign.to_string()]);

    // A pack that points need is missing: nothing is condemned while that is so.
    let needed = *facts.needed_packs.iter().next().unwrap();
    store.delete(&object_name(names::pack(&site.handle(), &needed)).unwrap()).await.unwrap();
    let outcome = open(&repository).await.prune(&RULES, &clock(30, 9), &writer()).await;
    assert!(matches!(&outcome, Err(Error::Damaged { object, .. }) if object.contains("/pack/")), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_begins_with_the_commit_that_condemns_however_long_ago_the_clocks_were_asked() {
    let (_, repository, [first, second]) = two_points().await;
    let long_ago = Timestamp(Timestamp::now().0 - 9 * DAY);
    let (snapshots, forgotten) = (vec![first], Forgotten { at: long_ago, till: long_ago });
    let event = CommitEvent::Forgot { snapshots, forgotten, reason: "a test".into() };
    open(&repository).await.commit(&writer(), |_, _| Ok(event.clone())).await.unwrap();
    // As by a host that was asleep between its question and its commit.
    assert!(prune(&repository, -5, 9).await.condemned > 0);
    assert_eq!(prune(&repository, 0, 10).await.deleted, 0, "somebody may have begun to read just before");
    assert!(prune(&repository, 2, 10).await.deleted > 0);
    read_all(&repository, "acme", second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_a_merged_index_has_no_place_for_stays_while_a_point_needs_it() {
    let (_, _, repository) = new_repository().await;
    publish(&repository, "acme", &[("before", content(1, 600_000))]).await;
    // Two backups at once store the same content, each for itself.
    let mut backups = Vec::new();
    for _ in 0..2 {
        let site = open(&repository).await;
        let ingest = Ingest::start(&site, IngestOptions::default()).await.unwrap();
        let new = crate::tests::new_snapshot(&ingest, &[("same", content(2, 600_000))]);
        let prepared = ingest.finish(&site, new).await.unwrap();
        backups.push((site, prepared));
    }
    for (site, prepared) in &mut backups {
        site.publish(&writer(), prepared, |_, _| Ok(prepared.record.clone())).await.unwrap();
    }
    open(&repository).await.merge_index(&writer()).await.unwrap();
    let pruned = prune(&repository, 2, 9).await;
    assert_eq!((pruned.plan.condemn.indexes.len(), pruned.plan.condemn.packs.len()), (3, 0), "{pruned:?}");
    assert!(prune(&repository, 5, 10).await.deleted > 0);
    for (_, prepared) in backups {
        assert_eq!(read_all(&repository, "acme", prepared.record.id).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_clock_is_asked_and_nothing_is_left_of_the_question() {
    let (_, _, repository) = new_repository().await;
    let asked = repository.trusted_now(Timestamp::now()).await;
    assert!(matches!(asked, Err(Error::Clock { .. })), "no run yet: {asked:?}");
    let (store, master) = (std::sync::Arc::new(MemoryStore::new()), lifeboat_format::SecretKey::generate().unwrap());
    let (repository, _) = Repository::init(store.clone(), &master).await.unwrap();
    let noon = Timestamp(1_700_000_000_000_000);
    store.set_clock(Timestamp(noon.0 + DAY / 2));
    let run = lifeboat_model::Run {
        number: RunNumber(1),
        nonce: lifeboat_model::ObjectId([0; 16]),
        started_at: noon,
        finished_at: noon,
        writer: writer(),
        sources: Vec::new(),
        sites: Vec::new(),
    };
    assert!(repository.record_run(run).await.unwrap());
    let trusted = repository.trusted_now(Timestamp(noon.0 + DAY)).await.unwrap();
    let want = TrustedNow { now: Timestamp(noon.0 + DAY / 2), later: Timestamp(noon.0 + DAY), run: RunNumber(1) };
    assert_eq!(trusted, want);
    assert!(store.list("probe/", None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_was_set_aside_stays_as_long_as_a_point_names_it() {
    let (_, repository, [first, second]) = two_points().await;
    let mut site = open(&repository).await;
    // The first point's pack has the shared file, too; what is lost of it is the first point's own.
    let pack = site.manifest(&site.state().snapshot(first).unwrap().manifest).await.unwrap().head().packs[0].id;
    let finding = crate::Finding {
        object: names::pack(&site.handle(), &pack),
        offset: Some(108),
        detail: "its seal does not match".into(),
        entries: Vec::new(),
        snapshots: vec![first],
    };
    let aside = site.set_aside(&[finding], &writer()).await.unwrap();
    assert_eq!((aside.snapshots, aside.objects), (vec![first], 1));
    for (day, run) in [(30, 9), (60, 10), (90, 11)] {
        prune(&repository, day, run).await;
    }
    assert_eq!(read_all(&repository, "acme", second).await.len(), 2);
}
