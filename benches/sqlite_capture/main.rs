//! What it costs to capture many SQLite files while applications write to all of them.
//!
//! ```console
//! $ cargo bench --bench sqlite_capture
//! ```
//!
//! 400 files of about 1 MiB, 2,500 transactions a second in all, each of one row. The applications are a
//! process of their own, so that the processor time of this one is the capture's: reading, hashing, compressing,
//! sealing, and the repository, which is in memory. Once with logs that are begun anew seldom, as SQLite does by
//! itself, and once with logs of 60 pages. Without `--bench`, as `cargo test --benches` runs it, the many are few.

#![allow(clippy::print_stdout)]

mod writers;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lifeboat_control::PagesFile;
use lifeboat_engine::{Moment, PagesReport, PagesRequest, capture_pages, replay_pages};
use lifeboat_model::SourceName;
use lifeboat_store::MemoryStore;
use lifeboat_testkit::world::{World, backup_all, site_id};
use serde_json::{Value, json};

use lifeboat_bench::{Outcome, machine, table};

/// Share of one core that the capture may take.
const CORE_SHARE_MAX: f64 = 0.10;

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub files: usize,
    pub transactions_a_second: u32,
    pub seconds: u64,
    /// `None`: as SQLite does by itself, 1,000.
    pub log_pages: Option<u32>,
}

impl Load {
    /// A capture that begins again compares each file from end to end when it is first written; that is not measured.
    fn warm_up(&self) -> u64 {
        self.seconds / 5
    }
}

struct Measured {
    load: Load,
    transactions: u64,
    core_share: f64,
    report: PagesReport,
}

fn main() -> Outcome<()> {
    if let Some(directory) = std::env::var_os(writers::DIRECTORY) {
        return writers::run(Path::new(&directory));
    }
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let load = match is_bench {
        true => Load { files: 400, transactions_a_second: 2_500, seconds: 30, log_pages: None },
        false => Load { files: 8, transactions_a_second: 50, seconds: 2, log_pages: None },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let loads = [load, Load { log_pages: Some(60), ..load }];
    let all = loads.into_iter().map(|load| runtime.block_on(measure(load))).collect::<Outcome<Vec<_>>>()?;
    print(&all);
    if !is_bench {
        return Ok(());
    }
    let dir = lifeboat_bench::arguments::directory();
    fs::create_dir_all(&dir)?;
    let file = dir.join("sqlite-capture.json");
    fs::write(&file, format!("{}\n", whole(&all, &dir)))?;
    println!("as JSON: {}", file.display());
    judge(&all)
}

async fn measure(load: Load) -> Outcome<Measured> {
    let store = Arc::new(MemoryStore::new());
    let world = World::new(store.clone()).await;
    let hashes = tempfile::tempdir()?;
    let notes = SourceName::new("notes")?;
    writers::make_files(&world.root, &load)?;
    let engine = world.engine(store.clone()).await?;
    let mut index = PagesFile::open(hashes.path(), &notes, [0; 16])?;
    let mut request = PagesRequest {
        source: notes.clone(),
        until_caught_up: true,
        poll_every: PagesRequest::POLL_EVERY,
        flush_every: PagesRequest::FLUSH_EVERY,
        flush_bytes: PagesRequest::FLUSH_BYTES,
    };
    capture_pages(&engine, &request, &mut index).await?; // every file is known
    backup_all(&engine).await?;
    let applications = Command::new(std::env::current_exe()?)
        .env(writers::DIRECTORY, &world.root)
        .env(writers::LOAD, writers::to_text(&load))
        .stdout(Stdio::piped())
        .spawn()?;
    let cancel = engine.cancel.clone();
    let stopper = async {
        tokio::time::sleep(Duration::from_secs(load.warm_up())).await;
        let before = processor_time();
        tokio::time::sleep(Duration::from_secs(load.seconds)).await;
        cancel.store(true, Ordering::Relaxed);
        (before, processor_time())
    };
    request.until_caught_up = false;
    let (report, (before, after)) = tokio::join!(capture_pages(&engine, &request, &mut index), stopper);
    let core_share = (after? - before?).as_secs_f64() / load.seconds as f64;
    let said = tokio::task::block_in_place(|| applications.wait_with_output())?;
    let transactions = String::from_utf8(said.stdout)?.trim().parse()?;
    let report = report?;
    prove(&world, &store, &notes).await?;
    Ok(Measured { load, transactions, core_share, report })
}

/// What was captured can be put together again: the sum is proven by the replay itself.
async fn prove(world: &World, store: &Arc<MemoryStore>, notes: &SourceName) -> Outcome<()> {
    let engine = world.engine(store.clone()).await?;
    for number in [0, 3] {
        let file = tempfile::tempfile()?;
        replay_pages(&engine, &site_id(&writers::site(number)), notes, Moment::End, &file).await?;
    }
    Ok(())
}

/// That this process took so far.
fn processor_time() -> Outcome<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

fn print(all: &[Measured]) {
    let heading =
        ["log of", "files", "transactions/s", "versions", "full reads", "pages", "segments", "share of a core"];
    let row = |measured: &Measured| {
        let Measured { load, report, .. } = measured;
        let log = load.log_pages.unwrap_or(1_000);
        let rate = measured.transactions / (load.seconds + load.warm_up());
        let counts = [report.versions, report.full_reads, report.pages, report.segments];
        let share = format!("{:.1} %", measured.core_share * 100.0);
        let first = [format!("{log} pages"), load.files.to_string(), rate.to_string()];
        first.into_iter().chain(counts.map(|count| count.to_string())).chain([share]).collect()
    };
    print!("{}", table::text(&heading, &all.iter().map(row).collect::<Vec<Vec<String>>>()));
}

fn judge(all: &[Measured]) -> Outcome<()> {
    for measured in all {
        let wanted = u64::from(measured.load.transactions_a_second) * (measured.load.seconds + measured.load.warm_up());
        if measured.transactions < wanted * 9 / 10 {
            return Err(format!("the applications were too slow: {} of {wanted}", measured.transactions).into());
        }
        if measured.core_share > CORE_SHARE_MAX {
            return Err(format!("the capture takes {:.1} % of a core", measured.core_share * 100.0).into());
        }
    }
    Ok(())
}

fn whole(all: &[Measured], dir: &Path) -> Value {
    let one = |measured: &Measured| {
        let Measured { load, transactions, core_share, report } = measured;
        json!({
            "files": load.files,
            "log_pages": load.log_pages.unwrap_or(1_000),
            "seconds": load.seconds,
            "warm_up_seconds": load.warm_up(),
            "transactions": transactions,
            "core_share": core_share,
            "rounds": report.rounds,
            "versions": report.versions,
            "full_reads": report.full_reads,
            "pages": report.pages,
            "page_bytes": report.page_bytes,
            "segments": report.segments,
        })
    };
    json!({
        "bench": "sqlite_capture",
        "machine": machine::facts(dir),
        "loads": all.iter().map(one).collect::<Vec<_>>(),
    })
}
