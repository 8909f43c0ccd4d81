//! The store is away for long, and the server keeps much: changes are kept on the host, and acknowledged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_engine::{BackupRequest, SiteBackup, backup};
use lifeboat_format::SecretKey;
use lifeboat_model::{Lsn, PointInTime, Timestamp};
use lifeboat_store::{DirectoryStore, Store};
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::site_id;

use crate::host::Host;
use crate::outage::Outage;
use crate::world::{World, app};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "plainly-to-be-seen";
const SOURCE: &str =
    "tenancy = \"column\"\ntenant_column = \"site_id\"\nroot = \"sites\"\nshared = [\"countries\", \"plans\"]";
const ROOM: u64 = 64 << 20;

/// A host that has captured, a capture that goes on, and a store that was just taken away.
struct Scene {
    world: World,
    host: Host,
    outage: Outage,
}

impl Scene {
    async fn new(test: &str, spill_limit: u64) -> Option<Self> {
        let world = World::new(test).await?;
        let host = Host::new(&world.url, SOURCE);
        let (done, code) = host.told(&["capture", "--until-caught-up"]);
        assert_eq!(code, 0, "{done}");
        let outage = Outage::start(&host, &world.url, spill_limit);
        outage.wait_for("Following");
        outage.takes_store_away();
        Some(Self { world, host, outage })
    }

    /// Somebody else's log, more than half of what the slot may keep.
    fn passes_the_alarm_line(&self) {
        let noise = "SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000)) FROM generate_series(1, 38)";
        run_sql(&self.world.server.url("postgres"), noise).unwrap();
        self.outage.wait_for("SlotGrows");
    }

    /// Rows with a value that can be looked for; gives where the server's log is then.
    fn comment(&self, body: &str) -> Lsn {
        let sql = format!(
            "INSERT INTO comments (issue_id, body, created) SELECT id, '{body}', now() FROM issues \
             WHERE site_id = '{}' LIMIT 3",
            site_name(1)
        );
        run_sql(&self.world.url, &sql).unwrap();
        lsn(&self.world, "SELECT pg_current_wal_insert_lsn()::text")
    }

    /// Of the first site.
    fn comments(&self) -> u64 {
        let sql = format!(
            "SELECT count(*)::text FROM comments JOIN issues ON issues.id = issue_id WHERE site_id = '{}'",
            site_name(1)
        );
        query_text(&self.world.url, &sql).unwrap()[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// Past the alarm line, and a change is acknowledged that no bucket has.
    fn acknowledges_on_its_host(&self) {
        self.comment("begin");
        self.outage.wait_for("Waiting");
        self.passes_the_alarm_line();
        let position = self.comment(SECRET);
        self.wait_until_confirmed(position);
    }

    fn wait_until_confirmed(&self, position: Lsn) {
        let began = Instant::now();
        while confirmed(&self.world) < position {
            assert!(began.elapsed() < PATIENCE, "not confirmed: {}", self.outage.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn spill(&self) -> PathBuf {
        self.host.path("lifeboat.catalog/spill-app.sealed")
    }

    /// The store is back, and whoever captured is dead.
    fn kill(self) -> (World, Host) {
        let Self { world, host, outage } = self;
        outage.kill();
        (world, host)
    }
}

fn lsn(world: &World, sql: &str) -> Lsn {
    Lsn::parse(query_text(&world.url, sql).unwrap()[0][0].as_deref().unwrap()).unwrap()
}

fn confirmed(world: &World) -> Lsn {
    lsn(world, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'lifeboat_app'")
}

/// As the program does when it is started anew; the server may take a moment to see that the other is gone.
fn capture(host: &Host) -> serde_json::Value {
    let began = Instant::now();
    loop {
        let (done, code) = host.told(&["capture", "--until-caught-up"]);
        if code == 0 {
            return done;
        }
        assert!(code == 12 && began.elapsed() < PATIENCE, "{code}: {done}");
    }
}

/// Every row of every site at the end of the log is what the database holds, and no change is there twice.
async fn expect_whole(world: &mut World, host: &Host, when: &str) {
    let key = std::fs::read_to_string(host.path("lifeboat.key")).unwrap();
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&host.path("lifeboat-repository")).unwrap());
    world.look_at(store, &SecretKey::parse_base64(&key).unwrap()).await;
    world.expect_nothing_twice_and_nothing_lost(when).await;
    let replayed = world.all_replayed().await;
    let request = BackupRequest { accept_loss: true, ..BackupRequest::default() };
    assert!(backup(&world.engine, &request).await.unwrap().sites.iter().all(SiteBackup::is_good));
    world.expect_as_snapshots(&replayed, when).await;
}

// Explains invariant: spilled-before-confirmed
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_while_the_store_is_away_are_acknowledged_and_survive_a_kill() {
    const TEST: &str = "changes_while_the_store_is_away_are_acknowledged_and_survive_a_kill";
    let Some(scene) = Scene::new(TEST, ROOM).await else { return };
    scene.comment("before the alarm");
    scene.outage.wait_for("Waiting");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!scene.spill().exists(), "below the alarm line nothing is acknowledged that is not in the bucket");
    scene.passes_the_alarm_line();
    let first = scene.comment(SECRET);
    scene.outage.wait_for("OnlyHere");
    scene.wait_until_confirmed(first);
    scene.world.work(11, 40);
    let position = scene.comment("and more");
    let (moment, comments) = (Timestamp::now(), scene.comments());
    scene.wait_until_confirmed(position);
    // What is under way is not acknowledged, and comes again.
    scene.world.work(12, 10);
    let bytes = std::fs::read(scene.spill()).unwrap();
    assert!(bytes.len() > 10_000 && !bytes.windows(SECRET.len()).any(|some| some == SECRET.as_bytes()));
    let (mut world, host) = scene.kill();

    let (status, code) = host.told(&["status"]);
    assert_eq!((code, status["captured"]["troubled"].as_u64()), (4, Some(1)), "{status}");
    let said = String::from_utf8(host.run(&["status"]).stdout).unwrap();
    assert!(said.contains("WARNING: changes are on this host only"), "{said}");
    assert!(said.contains("only on this host ("), "{said}");
    let points = String::from_utf8(host.run(&["points", &site_name(1)]).stdout).unwrap();
    assert!(points.contains("only on this host"), "{points}");

    let before = confirmed(&world);
    let done = capture(&host);
    let source = &done["sources"][0];
    assert_eq!((source["epoch"].as_u64(), source["unrouted"].as_u64()), (Some(1), Some(0)), "{done}");
    assert!(confirmed(&world) >= before);
    assert!(!host.path("lifeboat.catalog/spill-app.sealed").exists());
    let points = String::from_utf8(host.run(&["points", &site_name(1)]).stdout).unwrap();
    assert!(!points.contains("only on this host") && !points.contains("a gap from"), "{points}");
    expect_whole(&mut world, &host, "after the outage").await;
    // A moment within it.
    let rows = world.rows_at(&site_id(&site_name(1)), &PointInTime::Time(moment)).await;
    assert_eq!(rows["public.comments"].0, comments);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_comes_back_gets_what_was_kept_from_the_same_capture() {
    const TEST: &str = "a_store_that_comes_back_gets_what_was_kept_from_the_same_capture";
    let Some(scene) = Scene::new(TEST, ROOM).await else { return };
    scene.acknowledges_on_its_host();
    scene.world.work(13, 30);
    scene.outage.gives_store_back();
    scene.comment("after");
    scene.outage.wait_for("OnlyHereNoMore");
    assert!(!scene.spill().exists() && !scene.outage.told().contains("Begun"), "{}", scene.outage.told());
    let (mut world, host) = scene.kill();
    capture(&host);
    expect_whole(&mut world, &host, "after the outage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_takes_requests_and_answers_none_is_not_waited_for_past_the_alarm_line() {
    const TEST: &str = "a_store_that_takes_requests_and_answers_none_is_not_waited_for_past_the_alarm_line";
    let Some(scene) = Scene::new(TEST, ROOM).await else { return };
    scene.outage.makes_store_hang();
    scene.comment("begin");
    scene.passes_the_alarm_line();
    let position = scene.comment(SECRET);
    scene.wait_until_confirmed(position);
    scene.outage.gives_store_back();
    scene.outage.wait_for("OnlyHereNoMore");
    let (mut world, host) = scene.kill();
    capture(&host);
    expect_whole(&mut world, &host, "after the outage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_only_on_a_host_that_is_lost_is_a_gap_that_everybody_sees() {
    const TEST: &str = "what_was_only_on_a_host_that_is_lost_is_a_gap_that_everybody_sees";
    let Some(scene) = Scene::new(TEST, ROOM).await else { return };
    scene.acknowledges_on_its_host();
    let spill = scene.spill();
    let (mut world, host) = scene.kill();
    std::fs::remove_file(spill).unwrap();
    let done = capture(&host);
    assert_eq!(done["sources"][0]["epoch_begun"].as_str(), Some("slot lost"), "{done}");
    let points = String::from_utf8(host.run(&["points", &site_name(1)]).stdout).unwrap();
    assert!(points.contains("a gap from") && points.contains("further than the log"), "{points}");
    run_sql(&world.url, "UPDATE issues SET title = title || '!'").unwrap(); // behind the bases
    capture(&host);
    expect_whole(&mut world, &host, "in the new epoch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_without_room_acknowledges_nothing_more_and_loses_nothing() {
    const TEST: &str = "a_host_without_room_acknowledges_nothing_more_and_loses_nothing";
    let Some(scene) = Scene::new(TEST, 20_000).await else { return };
    scene.comment("begin");
    scene.outage.wait_for("Waiting");
    scene.passes_the_alarm_line();
    scene.outage.wait_for("OnlyHere");
    scene.world.work(14, 60);
    scene.outage.wait_for("SpillIsFull");
    let position = scene.comment(SECRET);
    std::thread::sleep(Duration::from_secs(3));
    assert!(confirmed(&scene.world) < position);
    assert!(std::fs::metadata(scene.spill()).unwrap().len() <= 20_000);
    assert_eq!(scene.outage.told().matches("SpillIsFull").count(), 1);
    scene.outage.gives_store_back();
    scene.outage.wait_for("OnlyHereNoMore");
    let (mut world, host) = scene.kill();
    let done = capture(&host);
    assert_eq!(done["sources"][0]["epoch"].as_u64(), Some(1), "{done}");
    expect_whole(&mut world, &host, "after the outage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_kept_is_restorable_though_the_slot_is_lost() {
    const TEST: &str = "what_was_kept_is_restorable_though_the_slot_is_lost";
    let Some(scene) = Scene::new(TEST, ROOM).await else { return };
    scene.acknowledges_on_its_host();
    let kept = query_text(&scene.world.url, &format!("SELECT count(*) FROM comments WHERE body = '{SECRET}'")).unwrap();
    assert_eq!(kept[0][0].as_deref(), Some("3"));
    let (mut world, host) = scene.kill();
    let began = Instant::now();
    while query_text(&world.url, "SELECT pg_drop_replication_slot('lifeboat_app')").is_err() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    let done = capture(&host);
    assert_eq!(done["sources"][0]["epoch_begun"].as_str(), Some("slot lost"), "{done}");
    assert!(!host.path("lifeboat.catalog/spill-app.sealed").exists());
    let key = std::fs::read_to_string(host.path("lifeboat.key")).unwrap();
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&host.path("lifeboat-repository")).unwrap());
    world.look_at(store, &SecretKey::parse_base64(&key).unwrap()).await;
    let parts = {
        let site = world.engine.site(&site_id(&site_name(1))).await.unwrap();
        lifeboat_engine::windows(&world.engine, &site, &[app()], lifeboat_engine::Certainty::Whole).await.unwrap()
    };
    // The log of the epoch before has come as far as what was kept.
    let committed = query_text(
        &world.url,
        &format!(
            "SELECT (extract(epoch FROM min(created)) * 1000000)::int8::text FROM comments WHERE body = '{SECRET}'"
        ),
    )
    .unwrap();
    let committed: i64 = committed[0][0].as_deref().unwrap().parse().unwrap();
    assert!(parts[0].windows[0].till >= Timestamp(committed), "{parts:?}");
    assert_eq!(parts[0].windows.len(), 2, "{parts:?}");
}

/// The files of the routing index, which nobody has open.
fn index_files(host: &Host) -> Vec<(PathBuf, Vec<u8>)> {
    let all = std::fs::read_dir(host.path("lifeboat.catalog")).unwrap().map(|entry| entry.unwrap().path());
    let is_index = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("routing-"));
    all.filter(is_index).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

// Explains invariant: spill-joins-log
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_that_is_older_than_what_was_kept_goes_on_nowhere() {
    const TEST: &str = "an_index_that_is_older_than_what_was_kept_goes_on_nowhere";
    let Some(world) = World::new(TEST).await else { return };
    let host = Host::new(&world.url, SOURCE);
    capture(&host);
    let old = index_files(&host);
    run_sql(&world.url, "UPDATE issues SET title = title || '!'").unwrap();
    capture(&host); // the slot is further than that copy
    let outage = Outage::start(&host, &world.url, ROOM);
    outage.wait_for("Following");
    outage.takes_store_away();
    let scene = Scene { world, host, outage };
    scene.acknowledges_on_its_host();
    let (world, host) = scene.kill();
    index_files(&host).into_iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
    old.into_iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let done = capture(&host);
    assert_eq!(done["sources"][0]["epoch_begun"].as_str(), Some("slot lost"), "{done}");
    let points = String::from_utf8(host.run(&["points", &site_name(1)]).stdout).unwrap();
    assert!(points.contains("begins later"), "{points}");
    drop(world);
}
