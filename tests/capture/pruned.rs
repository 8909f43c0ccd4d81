//! A change log whose oldest segments are gone: what is restorable is what it was, and nothing else is given.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{
    Certainty, CheckRequest, DamageRequest, Engine, LogNeeds, NeededBase, SiteBackup, SiteOutcome, check_logs,
    find_damage, list, prune_log, windows,
};
use lifeboat_format::SecretKey;
use lifeboat_model::{
    EpochId, Fault, Faulty, PointInTime, RunNumber, SegmentNumber, SiteId, SnapshotRecord, Timestamp,
};
use lifeboat_repo::{CheckDepth, EpochPruned, PruneRules, Repository, TrustedNow};
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::{SITES, World, app, engine_over, expect_same, read_snapshot, rows_of};

const EPOCH: EpochId = EpochId(1);
const DAY: i64 = 86_400_000_000;
const RULES: PruneRules =
    PruneRules { grace: Duration::from_secs(3 * 86_400), unnamed: Duration::from_secs(2 * 86_400) };
/// Segments are looked at that were sealed a minute before a base, whatever they hold.
const PAUSE: Duration = Duration::from_secs(62);

async fn snapshots(engine: &Engine, site: &SiteId) -> Vec<SnapshotRecord> {
    engine.site(site).await.unwrap().state().snapshots.clone()
}

async fn prune(engine: &Engine, needs: &LogNeeds, day: i64, run: u64) -> Option<EpochPruned> {
    let now = Timestamp(Timestamp::now().0 + day * DAY);
    let clock = TrustedNow { now, later: now, run: RunNumber(run) };
    prune_log(engine, &app(), needs, (&RULES, &clock), true).await.unwrap().pop()
}

async fn first_kept(engine: &Engine) -> SegmentNumber {
    engine.change_log(&app()).await.unwrap().kept(EPOCH).await.unwrap().first()
}

/// Holds a row for so long, in a transaction of its own; gives its number once it has one.
pub fn hold_a_row(url: &str, seconds: u64) -> (std::thread::JoinHandle<()>, u64) {
    let url_of_thread = url.to_owned();
    let sql = format!(
        "BEGIN; UPDATE issues SET title = 'held' WHERE id = (SELECT min(id) FROM issues WHERE site_id = 'site-00002');
         SELECT pg_sleep({seconds}); COMMIT"
    );
    let holder = std::thread::spawn(move || run_sql(&url_of_thread, &sql).unwrap());
    let asks =
        "SELECT backend_xid::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND backend_xid IS NOT NULL
                AND pid <> pg_backend_pid()";
    loop {
        if let Some(row) = query_text(url, asks).unwrap().pop() {
            return (holder, row[0].as_deref().unwrap().parse().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same bucket, to be treated otherwise.
async fn copy_of(world: &World) -> Engine {
    let copy = Arc::new(MemoryStore::new());
    let mut after = None;
    loop {
        let page = world.store.list("", after.as_ref(), 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        for listed in page {
            copy.create(&listed.name, world.store.get(&listed.name).await.unwrap()).await.unwrap();
        }
    }
    world.engine_over(copy).await
}

fn published(backup: &SiteBackup) -> SnapshotRecord {
    match &backup.outcome {
        SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) => (**record).clone(),
        other => panic!("{other:?}"),
    }
}

async fn refused(engine: &Engine, site: &SiteId, at: Timestamp) -> String {
    let error = list(engine, site, &PointInTime::Time(at), None, None).await.map(drop).unwrap_err();
    assert_eq!(error.fault(), Fault::Operator, "{error}");
    error.hint().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pruned_log_gives_every_moment_that_it_is_kept_for_and_no_other() {
    const TEST: &str = "a_pruned_log_gives_every_moment_that_it_is_kept_for_and_no_other";
    let Some(mut world) = World::new(TEST).await else { return };
    let (store, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
    Repository::init(store.clone(), &master).await.unwrap();
    let oracle = engine_over(&world.url, store, &master).await;
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    world.work(1, 20);
    world.catch_up().await;
    let held_at = world.engine.change_log(&app()).await.unwrap().newest().unwrap().segment.unwrap().number;
    let (holder, held) = hold_a_row(&world.url, PAUSE.as_secs() + 20);
    world.work(2, 20);
    world.catch_up().await;
    tokio::time::sleep(PAUSE).await;
    world.work(3, 20);
    world.catch_up().await;
    let early = Timestamp::now();
    world.work(4, 5);
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let url = world.url.clone();
    tokio::task::spawn_blocking(move || holder.join().unwrap()).await.unwrap();
    assert!(
        query_text(&url, "SELECT count(*)::text FROM issues WHERE title = 'held'").unwrap()[0][0] == Some("1".into())
    );
    world.work(5, 20);
    let moment = Timestamp::now();
    backup_all(&oracle).await.unwrap();
    world.work(6, 20);
    world.catch_up().await;

    let sites: Vec<SiteId> = (1..=SITES).map(|number| site_id(&site_name(number))).collect();
    let mut bases = Vec::new();
    for site in &sites {
        let all = snapshots(&world.engine, site).await;
        assert_eq!(all.len(), 2, "{site}");
        bases.push((site.clone(), all[1].clone()));
    }
    let since = bases.iter().map(|(_, base)| base.cut_from).min().unwrap();
    let needed = |site: &SiteId, base: &SnapshotRecord| NeededBase {
        cut_from: base.cut_from,
        site: site.clone(),
        snapshot: base.id,
    };
    let asked = bases.iter().map(|(site, base)| needed(site, base)).collect();
    let needs = LogNeeds { since, doubt: Duration::from_secs(1), bases: asked, undelete: Duration::ZERO };

    // By the time alone, segments would go that a base does not see all of: such a base is none any more.
    let other = copy_of(&world).await;
    // Who asks none at all lets go of nothing.
    let asks_none = LogNeeds { bases: vec![], ..needs.clone() };
    assert!(prune(&other, &asks_none, 0, 5).await.is_none());
    let later = backup_all(&other).await.unwrap();
    let asked = later.sites.iter().map(|one| needed(&one.site, &published(one))).collect();
    let by_time = prune(&other, &LogNeeds { bases: asked, ..needs.clone() }, 0, 5).await.unwrap();
    assert!(by_time.condemned > 0 && first_kept(&other).await > held_at.next());
    refused(&other, &sites[1], moment).await;

    let condemned = prune(&world.engine, &needs, 0, 5).await.unwrap();
    assert_eq!((condemned.deleted, condemned.plan.begins.unwrap().bases_since), (0, since));
    let first = first_kept(&world.engine).await;
    assert!(SegmentNumber(1) < first && first <= held_at.next(), "{first} of {held_at}, for transaction {held}");
    for (day, run, deletes) in [(1, 6, false), (4, 5, false), (4, 6, true), (9, 7, false)] {
        let deleted = prune(&world.engine, &needs, day, run).await.map_or(0, |pruned| pruned.deleted);
        assert_eq!(deleted > 0, deletes, "day {day}, run {run}");
        expect_kept((&world, &oracle), &bases, (early, moment)).await;
    }
    let gone =
        world.engine.change_log(&app()).await.unwrap().segments(EPOCH, SegmentNumber(1)..=SegmentNumber(2)).await;
    assert!(gone.is_err(), "they were deleted");

    crate::born::expect_born(&mut world, "born-late").await;

    // Capture goes on behind them, with what is known on its host.
    world.work(7, 20);
    let report = world.catch_up().await;
    assert_eq!((report.begun, report.unrouted), (None, 0));
    let replayed = world.all_replayed().await;
    backup_all(&world.engine).await.unwrap();
    world.expect_as_snapshots(&replayed, "behind a pruned log").await;
}

/// A moment since the bases is what the oracle says; nothing is restorable before.
async fn expect_kept(
    (world, oracle): (&World, &Engine),
    bases: &[(SiteId, SnapshotRecord)],
    (early, moment): (Timestamp, Timestamp),
) {
    for (site, base) in bases {
        let all = snapshots(&world.engine, site).await;
        let rows = rows_of(&world.engine, site, &PointInTime::Time(moment)).await;
        expect_same(&rows, &read_snapshot(oracle, site, &PointInTime::Latest).await, &format!("{site}, then"));
        let hint = refused(&world.engine, site, early).await;
        assert!(hint.contains("kept no longer") && hint.contains("--at snapshot:ID"), "{hint}");
        // As snapshots the old ones are what they were.
        read_snapshot(&world.engine, site, &PointInTime::Snapshot(all[0].id)).await;
        let open = world.engine.site(site).await.unwrap();
        let parts = windows(&world.engine, &open, &[app()], Certainty::Whole).await.unwrap();
        assert_eq!((parts[0].windows.len(), parts[0].windows[0].base), (1, base.id), "{parts:?}");
    }
    let report = find_damage(&world.engine, &DamageRequest { since: Timestamp(0), source: None }).await.unwrap();
    assert_eq!(report.logs.len(), 1);
    let depth = CheckDepth::ReadData { percent: 100, turn: 0 };
    let checked = check_logs(&world.engine, &CheckRequest { sites: vec![], depth }).await.unwrap();
    assert_eq!(checked[0].outcome.as_ref().unwrap().findings, []);
}
