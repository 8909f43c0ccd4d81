//! When bystanders are looked at: the first look outlives who took it, and a proof ends it.

use std::collections::BTreeSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_control::recovery::{Ledger, RecoveryEngine, look_before, prove_after};
use lifeboat_engine::{
    AnySource, BystanderRequest, Engine, ProofRequest, Recoveries, look_again, look_at_bystanders, prove_bystanders,
};
use lifeboat_model::{BystanderChoice, BystanderProof, RecoveryId, SiteId};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_store::MemoryStore;
use lifeboat_testkit::postgres::{Postgres, pooled_config, pooled_fleet, site_name};
use lifeboat_testkit::world::{World, engine_in_memory, site_id};

use crate::around::app;
use crate::fake::plan;

/// After so long a database file has a stamp.
const STAMPED: Duration = Duration::from_millis(100);

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

    /// As a run that has no time for any of them, and wants a proof without a gap.
    fn prove_unseen(&self, known: &[&str]) -> BystanderProof {
        let others: BTreeSet<SiteId> = known.iter().map(|site| site_id(site)).collect();
        let (recovery, choice, patience) = (self.recovery, BystanderChoice::Sample(2), Some(Duration::ZERO));
        let request = BystanderRequest { recovery, choice, others: &others, patience };
        let first = look_at_bystanders(&self.engine, &request).unwrap();
        let second = look_again(&self.engine, &first).unwrap();
        let (cases, must_be_quiet, patience) = (BTreeSet::new(), true, Duration::ZERO);
        let request =
            ProofRequest { first: &first, second: &second, cases: &cases, wrote: &[], must_be_quiet, patience };
        self.runtime.block_on(prove_bystanders(&self.engine, request)).unwrap()
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
fn sites_that_were_asked_for_and_never_reached_are_counted_and_prove_nothing() {
    let scene = Scene::new(&["a", "b", "c"]);
    let proof = scene.prove_unseen(&["a", "b", "c"]);
    assert_eq!((proof.others, told(&proof), proof.not_comparable), (3, (2, 0, 0), 2), "{proof:?}");
    assert!(proof.compared() == 0 && proof.has_failed(), "{proof:?}");
    assert!(proof.notes.iter().all(|note| note.detail.contains("not read in time")), "{proof:?}");
    // Nobody at all is there: nothing is shown either.
    assert!(scene.prove_unseen(&["gone"]).has_failed());
    assert!(!scene.prove_unseen(&[]).has_failed(), "there is nobody else");
}

/// Passes on what comes to a server, a while after it was connected to.
fn slow_to_connect(url: &str, wait: Duration) -> String {
    let place = url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = url.replace(&place, &listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let place = place.clone();
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                let far = TcpStream::connect(place).unwrap();
                let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
                let (mut from, mut to) = (far, near);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    slow
}

#[test]
fn a_server_that_is_slow_to_take_connections_costs_no_time_for_reading() {
    const TEST: &str = "a_server_that_is_slow_to_take_connections_costs_no_time_for_reading";
    let Some(cluster) = Postgres::shared_or_skip(TEST) else { return };
    let url = cluster.fresh_database().unwrap();
    pooled_fleet(&url, 2, 10).unwrap();
    let patience = Duration::from_secs(2);
    let source = PostgresSource::new(app(), pooled_config(&slow_to_connect(&url, patience))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let engine = runtime.block_on(engine_in_memory(vec![AnySource::Postgres(Box::new(source))]));
    let others: BTreeSet<SiteId> = [1, 2].map(|number| site_id(&site_name(number))).into();
    let (recovery, choice) = (RecoveryId([1; 8]), BystanderChoice::Sample(2));
    let request = BystanderRequest { recovery, choice, others: &others, patience: Some(patience) };
    let look = look_at_bystanders(&engine, &request).unwrap();
    assert!(look.parts.len() == 2 && look.parts.iter().all(|part| part.digest.is_some()), "{look:?}");
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
