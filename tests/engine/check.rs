//! What a check finds, and that it finds nothing where nothing is wrong.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_engine::{CheckRequest, check, set_aside};
use lifeboat_model::{RunNumber, Timestamp};
use lifeboat_repo::{CheckDepth, TrustedNow};
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::world::{World, backup_all, picture_of, restore_latest, site_id};

// Explains invariant: damage-is-named
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_repository_has_no_findings_and_one_flipped_byte_is_named_with_its_entry() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 2000);
    let engine = world.engine(store.clone()).await.unwrap();
    backup_all(&engine).await.unwrap();
    let depth = CheckDepth::ReadData { percent: 100, turn: 0 };
    let request = CheckRequest { sites: Vec::new(), depth };
    let checks = check(&engine, &request).await.unwrap();
    assert!(checks.len() == 1 && checks[0].is_whole(), "{checks:?}");
    let report = checks[0].outcome.as_ref().unwrap();
    assert_eq!((report.snapshots, report.unnamed_objects, report.read_back.len()), (1, 0, 1), "{report:?}");

    let prefix = lifeboat_format::names::packs_prefix(&engine.repository.handle_of(&site_id("acme")));
    let pack = store.list(&prefix, None, 1).await.unwrap().remove(0).name;
    let mut bytes = store.get(&pack).await.unwrap().to_vec();
    bytes[5000] ^= 1;
    store.delete(&pack).await.unwrap();
    store.create(&pack, Bytes::from(bytes)).await.unwrap();
    let checks = check(&engine, &request).await.unwrap();
    let findings = &checks[0].outcome.as_ref().unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].object.contains(pack.as_str()) && findings[0].offset.is_some() && !findings[0].entries.is_empty()
    );
    store.delete(&pack).await.unwrap();
    let checks = check(&engine, &CheckRequest { depth: CheckDepth::Structure, ..request }).await.unwrap();
    let findings = &checks[0].outcome.as_ref().unwrap().findings;
    assert!(findings.len() == 1 && findings[0].detail.contains("missing"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_for_good_is_set_aside_and_the_next_backup_stores_it_anew() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    world.make_site("acme", 1, 2000);
    let engine = world.engine(store.clone()).await.unwrap();
    backup_all(&engine).await.unwrap();
    let good = picture_of(&world.site_dir("acme").join("files"), &world.site_dir("acme").join("notes.db"));
    let prefix = lifeboat_format::names::packs_prefix(&engine.repository.handle_of(&site_id("acme")));
    let packs = store.list(&prefix, None, 10).await.unwrap();
    for pack in &packs {
        store.delete(&pack.name).await.unwrap();
    }
    let request = CheckRequest { sites: Vec::new(), depth: CheckDepth::Structure };
    let checks = check(&engine, &request).await.unwrap();
    let done = set_aside(&engine, &site_id("acme"), checks[0].outcome.as_ref().unwrap()).await.unwrap();
    assert_eq!((done.snapshots.len(), done.objects), (1, packs.len() as u64));
    assert!(engine.site(&site_id("acme")).await.unwrap().state().latest().is_none(), "damage is no good point");

    backup_all(&engine).await.unwrap();
    let report = check(&engine, &request).await.unwrap().remove(0).outcome.unwrap();
    assert_eq!(report.findings.len(), packs.len(), "it is named as long as a point needs it: {report:?}");
    std::fs::remove_dir_all(world.site_dir("acme")).unwrap();
    restore_latest(&engine, "acme").await.unwrap();
    assert_eq!(picture_of(&world.site_dir("acme").join("files"), &world.site_dir("acme").join("notes.db")), good);
    // Damage that was set aside does not keep what nobody needs for ever.
    let now = Timestamp::now();
    let clock = TrustedNow { now, later: now, run: RunNumber(9) };
    let mut site = engine.site(&site_id("acme")).await.unwrap();
    assert!(site.prune_facts(&clock).await.is_ok());
}
