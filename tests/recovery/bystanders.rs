//! When bystanders are looked at: the first look outlives who took it, and a proof ends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_control::recovery::{Ledger, RecoveryEngine, look_before, prove_after};
use lifeboat_engine::{Engine, Recoveries};
use lifeboat_model::{BystanderChoice, BystanderProof, RecoveryId, SiteId};
use lifeboat_store::MemoryStore;
use lifeboat_testkit::world::{World, site_id};

use crate::fake::plan;

/// After so long a database file has a stamp.
const STAMPED: std::time::Duration = std::time::Duration::from_millis(100);

/// Sites of a world with files and database files, and a recovery of others, approved and not begun.
struct Scene {
    world: World,
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    recovery: RecoveryId,
}

impl Scene {
    fn new(sites: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let store = Arc::new(MemoryStore::new());
        let world = runtime.block_on(World::new(store.clone()));
        sites.iter().for_each(|site| world.make_site(site, 1, 20));
        std::thread::sleep(STAMPED); // a file that was just written is equal to nothing
        let engine = runtime.block_on(world.engine(store)).unwrap();
        let plan = plan(1, 2, 0);
        let scene = Self { world, engine, runtime, recovery: plan.id };
        let ledger = scene.ledger();
        ledger.submit(plan).unwrap();
        let hash = ledger.status(scene.recovery).unwrap().hash().to_owned();
        ledger.approve(scene.recovery, &hash).unwrap();
        scene
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(Recoveries::of(&self.engine), self.runtime.handle().clone())
    }

    /// As whoever runs it does, in a process of his own.
    fn look(&self, known: &[&str], choice: BystanderChoice) {
        let known: BTreeSet<SiteId> = known.iter().map(|site| site_id(site)).collect();
        let mut journal = self.ledger().status(self.recovery).unwrap();
        look_before(&mut journal, (&self.engine, self.runtime.handle()), known, choice).unwrap();
    }

    fn prove(&self) -> Option<Arc<BystanderProof>> {
        let mut journal = self.ledger().status(self.recovery).unwrap();
        prove_after(&mut journal, (&self.engine, self.runtime.handle()), false).unwrap()
    }

    fn write(&self, site: &str) {
        std::fs::write(self.world.site_dir(site).join("files/a.txt"), format!("{site} is written")).unwrap();
    }
}

/// (looked at, equal, not proven)
fn told(proof: &BystanderProof) -> (u64, u64, u64) {
    (proof.looked, proof.equal, proof.not_proven)
}

#[test]
fn who_goes_on_with_a_killed_recovery_compares_with_what_was_there_before_anything_was_done() {
    let scene = Scene::new(&["a", "b", "c"]);
    scene.look(&["a", "b", "c"], BystanderChoice::All);
    scene.write("b");
    // Killed here: another process looks, and what was looked at first counts.
    scene.look(&["a", "b", "c"], BystanderChoice::All);
    scene.world.write_rows("c", 2, 21);
    let proof = scene.prove().unwrap();
    assert_eq!(told(&proof), (3, 1, 2), "{proof:?}");
    let parts: Vec<_> = proof.notes.iter().map(|note| (note.site.as_str(), note.source.as_str())).collect();
    assert_eq!(parts, [("b", "files"), ("c", "notes")]);
    // Proven is proven; the next run begins with a look of its own.
    assert!(scene.prove().is_none());
    std::thread::sleep(STAMPED);
    scene.look(&["a", "b", "c"], BystanderChoice::All);
    assert_eq!(told(&scene.prove().unwrap()), (3, 3, 0));
    assert_eq!(scene.ledger().status(scene.recovery).unwrap().state().proofs.len(), 2);
}

#[test]
fn sites_of_the_recovery_and_sites_that_are_gone_are_no_bystanders() {
    let scene = Scene::new(&["a", "b", "site-000"]);
    let known = ["a", "b", "gone", "site-000", "site-001"];
    scene.look(&known, BystanderChoice::Sample(2));
    // One of them goes meanwhile, with all it has.
    std::fs::remove_dir_all(scene.world.site_dir("a")).unwrap();
    let proof = scene.prove().unwrap();
    assert_eq!((proof.others, told(&proof)), (3, (2, 1, 1)), "{proof:?}");
    assert!(proof.notes.iter().all(|note| note.site.as_str() == "a"), "{proof:?}");
    scene.look(&known, BystanderChoice::None);
    assert!(scene.prove().is_none());
}
