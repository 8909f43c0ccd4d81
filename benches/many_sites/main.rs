//! What one site costs in a repository of few sites and of many: it must be the same.
//!
//! ```console
//! $ cargo bench --bench many_sites
//! ```
//!
//! The repository is in memory behind a store that answers after 5 ms, so that what is counted -
//! requests, bytes, round trips - is exact, and what is timed is what a network makes of them.
//! Without `--bench`, as `cargo test --benches` runs it, the many are few.

#![allow(clippy::print_stdout)]

mod timeline;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_engine::{BackupRequest, Engine, SiteOutcome, backup};
use lifeboat_testkit::memory::MapMemory;
use lifeboat_testkit::world::{World, backup_all, restore_latest, site_id};
use serde_json::{Value, json};

use lifeboat_bench::{Outcome, machine, table};
use timeline::{Timeline, round_trips};

const LATENCY: Duration = Duration::from_millis(5);
const SITE: &str = "acme";
const UNCHANGED_REQUESTS_MAX: u64 = 4;

/// What one command asked of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    requests: u64,
    round_trips: u64,
    bytes_read: u64,
    /// Round trips before the first chunk arrived; 0: there was none to wait for.
    before_first_chunk: u64,
    milliseconds: u64,
}

/// The commands measured on one fleet.
struct Measured {
    sites: usize,
    restore: Asked,
    unchanged: Asked,
}

fn main() -> Outcome<()> {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let fleets = if is_bench { [2, 2_000] } else { [2, 20] };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut all = Vec::new();
    for sites in fleets {
        all.push(runtime.block_on(measure(sites))?);
    }
    print(&all);
    if is_bench {
        let dir = lifeboat_bench::arguments::directory();
        fs::create_dir_all(&dir)?;
        let file = dir.join("many-sites.json");
        fs::write(&file, format!("{}\n", whole(&all, &dir)))?;
        println!("as JSON: {}", file.display());
    }
    judge(&all)
}

async fn measure(sites: usize) -> Outcome<Measured> {
    let store = Timeline::default();
    let world = World::new(Arc::new(store.clone())).await;
    world.make_site(SITE, 1, 500);
    for number in 1..sites {
        let dir = world.site_dir(&format!("other-{number:05}")).join("files");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("page.txt"), format!("the page of site {number}"))?;
    }
    let memory = Arc::new(MapMemory::default());
    let report = backup_all(&open(&world, &store, &memory).await?).await?;
    if let Some(bad) = report.sites.iter().find(|site| !site.is_good()) {
        return Err(format!("the fleet was not backed up: {bad:?}").into());
    }

    store.set_latency(LATENCY);
    // Twice: the first unchanged run may still note what the second then knows.
    let mut unchanged = None;
    for _ in 0..2 {
        let engine = open(&world, &store, &memory).await?;
        unchanged = Some(asked(&store, back_up_unchanged(&engine)).await?);
    }
    let picture = world.picture(SITE);
    fs::remove_dir_all(world.site_dir(SITE))?;
    // Another host: nothing is remembered, as after the loss of this one.
    let restoring = async {
        let engine = world.engine(Arc::new(store.clone())).await?;
        let receipt = restore_latest(&engine, SITE).await?;
        if receipt.all_passed() { Ok(()) } else { Err(format!("{:?}", receipt.checks).into()) }
    };
    let restore = asked(&store, restoring).await?;
    if world.picture(SITE) != picture {
        return Err("the site was restored otherwise".into());
    }
    Ok(Measured { sites, restore, unchanged: unchanged.ok_or("nothing was measured")? })
}

async fn open(world: &World, store: &Timeline, memory: &Arc<MapMemory>) -> Outcome<Engine> {
    Ok(world.engine_with(Arc::new(store.clone()), memory.clone()).await?)
}

async fn back_up_unchanged(engine: &Engine) -> Outcome<()> {
    let request = BackupRequest { sites: vec![site_id(SITE)], ..BackupRequest::default() };
    let report = backup(engine, &request).await?;
    match report.sites.first().map(|site| &site.outcome) {
        Some(SiteOutcome::Unchanged(_)) => Ok(()),
        other => Err(format!("the site is not unchanged: {other:?}").into()),
    }
}

async fn asked(store: &Timeline, command: impl Future<Output = Outcome<()>>) -> Outcome<Asked> {
    store.take();
    let began = Instant::now();
    command.await?;
    let milliseconds = began.elapsed().as_millis() as u64;
    let requests = store.take();
    let is_chunk = |what: &str| what.starts_with("get_range ") && what.contains("/pack/");
    let first_chunk = requests.iter().filter(|request| is_chunk(&request.what)).map(|request| request.ended).min();
    let before: Vec<_> =
        requests.iter().filter(|request| first_chunk.is_some_and(|first| request.ended <= first)).cloned().collect();
    Ok(Asked {
        requests: requests.len() as u64,
        round_trips: round_trips(&requests) as u64,
        bytes_read: requests.iter().map(|request| request.bytes).sum(),
        before_first_chunk: round_trips(&before) as u64,
        milliseconds,
    })
}

fn print(all: &[Measured]) {
    let heading =
        ["command", "sites", "requests", "round trips", "of them to the first chunk", "bytes read", "ms at 5 ms each"];
    let row = |command: &str, sites: usize, asked: &Asked| {
        let Asked { requests, round_trips, bytes_read, before_first_chunk, milliseconds } = asked;
        let numbers = [*requests, *round_trips, *before_first_chunk, *bytes_read, *milliseconds];
        [command.to_owned(), sites.to_string()].into_iter().chain(numbers.map(|number| number.to_string())).collect()
    };
    let restores = all.iter().map(|measured| row("restore of one site", measured.sites, &measured.restore));
    let unchanged = all.iter().map(|measured| row("backup of it unchanged", measured.sites, &measured.unchanged));
    print!("{}", table::text(&heading, &restores.chain(unchanged).collect::<Vec<_>>()));
}

/// Fails the run where a site pays for its neighbours.
fn judge(all: &[Measured]) -> Outcome<()> {
    let counts = |asked: &Asked| (asked.requests, asked.before_first_chunk);
    for pair in all.windows(2) {
        if counts(&pair[0].restore) != counts(&pair[1].restore) {
            return Err("a restore asks more of the store where there are more sites".into());
        }
    }
    match all.iter().find(|measured| measured.unchanged.requests > UNCHANGED_REQUESTS_MAX) {
        Some(over) => Err(format!("an unchanged site costs {} requests", over.unchanged.requests).into()),
        None => Ok(()),
    }
}

fn whole(all: &[Measured], dir: &std::path::Path) -> Value {
    let asked = |asked: &Asked| {
        json!({
            "requests": asked.requests,
            "round_trips": asked.round_trips,
            "round_trips_to_first_chunk": asked.before_first_chunk,
            "bytes_read": asked.bytes_read,
            "milliseconds": asked.milliseconds,
        })
    };
    let fleets = all.iter().map(|measured| {
        json!({
            "sites": measured.sites,
            "restore": asked(&measured.restore),
            "unchanged": asked(&measured.unchanged),
        })
    });
    json!({
        "bench": "many_sites",
        "latency_ms": LATENCY.as_millis() as u64,
        "machine": machine::facts(dir),
        "fleets": fleets.collect::<Vec<_>>(),
    })
}
