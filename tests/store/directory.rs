//! The directory store on a real file system, also with several processes at once.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lifeboat_store::{DirectoryStore, Error, OpenOptions, Store, open};
use lifeboat_testkit::conformance::{self, Order, RACERS, name, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(DirectoryStore::create_root(dir.path()).unwrap()), Order::Bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_opened_by_its_url_keeps_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/with%20space", dir.path().display());
    let missing = open(&url, &OpenOptions::default()).await;
    assert!(matches!(missing, Err(Error::Refused { .. })), "{missing:?}");
    let opened = open(&url, &OpenOptions { create_root: true, ..OpenOptions::default() }).await.unwrap();
    conformance::run(Arc::clone(&opened.store), Order::Bytes).await;
    assert!(opened.meters.snapshot().requests() > 1000);
    open(&url, &OpenOptions::default()).await.unwrap();
}

const RACER_DIR: &str = "LIFEBOAT_TEST_RACER_DIR";
const RACER: &str = "LIFEBOAT_TEST_RACER";
const ROUNDS: usize = 8;

/// The objects that the racing processes fight for, one a round, each in directories that nobody
/// has made yet.
fn round_object(round: usize) -> lifeboat_store::ObjectName {
    name(&format!("race/{round}/deep/object"))
}

fn racer_body(racer: usize) -> bytes::Bytes {
    pattern(racer as u8, 20_000 + racer)
}

/// One of sixteen processes: says on standard output which rounds it won.
fn race_as(racer: usize, dir: &str) {
    let store = DirectoryStore::open(dir.as_ref()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // All begin together: the start is a whole second in the future.
    let start: u64 = std::env::var("LIFEBOAT_TEST_RACE_START").unwrap().parse().unwrap();
    for round in 0..ROUNDS {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(start + 40 * round as u64);
        std::thread::sleep(at.duration_since(SystemTime::now()).unwrap_or_default());
        match runtime.block_on(store.create(&round_object(round), racer_body(racer))) {
            Ok(()) => println!("won round={round}."),
            Err(Error::AlreadyExists { .. }) => {}
            Err(other) => panic!("racer {racer}: {other}"),
        }
    }
    println!("finished.");
}

/// Starts this very test in another process, in which it is a racer.
fn start_racer(racer: usize, dir: &std::path::Path, start: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "directory::of_sixteen_processes_exactly_one_creates_an_object", "--nocapture"])
        .env(RACER, racer.to_string())
        .env(RACER_DIR, dir)
        .env("LIFEBOAT_TEST_RACE_START", start.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn of_sixteen_processes_exactly_one_creates_an_object() {
    if let (Ok(racer), Ok(dir)) = (std::env::var(RACER), std::env::var(RACER_DIR)) {
        return race_as(racer.parse().unwrap(), &dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create_root(dir.path()).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let racers: Vec<Child> = (0..RACERS).map(|racer| start_racer(racer, dir.path(), now + 700)).collect();
    let mut winners: Vec<Vec<usize>> = vec![Vec::new(); ROUNDS];
    for (racer, child) in racers.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("finished."), "racer {racer}: {said}");
        for (round, won) in winners.iter_mut().enumerate() {
            if said.contains(&format!("won round={round}.")) {
                won.push(racer);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (round, won) in winners.iter().enumerate() {
        assert_eq!(won.len(), 1, "round {round}: winners {won:?}");
        let body = runtime.block_on(store.get(&round_object(round))).unwrap();
        assert_eq!(body, racer_body(won[0]), "round {round}");
    }
    let listed = runtime.block_on(store.list("", None, 100)).unwrap();
    assert_eq!(listed.len(), ROUNDS, "{listed:?}");
}
