//! One tenant of a pooled PostgreSQL: deleted and put back, loaded, and all of them backed up; beside
//! what people do without Lifeboat, on the same cluster in one run.
//!
//! ```console
//! $ cargo bench --bench pooled_tenant                    # 1,000 sites, above 2 GB
//! $ cargo bench --bench pooled_tenant -- --quick         # 100 sites: does it work, where does time go
//! $ cargo bench --bench pooled_tenant -- --sites 5000 --rows 12000 --rounds 5
//! ```
//!
//! `--only backups`, `restores` or `loads` measures that alone. `--few` is the smaller fleet of "flat in the number of sites", `--rows` what a site has in its ten
//! tables, `--measured-rows` what the restored one has, `--load-rows` that of the loading bench. The cluster is made by
//! `initdb` below the temporary directory, `fsync = on`; `LIFEBOAT_BENCH_DIR` says where repositories and dumps
//! lie (default `target/bench`). With pgBackRest in `PATH` it is measured too. Without `--bench`, as
//! `cargo test --benches` runs it, a tiny fleet shows that the bench works.

#![allow(clippy::print_stdout)]

mod backups;
mod beside;
mod fleet;
mod load;
mod ours;
mod report;

use std::fs;
use std::path::PathBuf;

use lifeboat_testkit::postgres::Postgres;

use beside::Beside;
use fleet::{Database, MEASURED, Shape};
use lifeboat_bench::arguments::{self, Arguments, Size};
use lifeboat_bench::{Outcome, machine};
use ours::Lifeboat;
use report::{Report, Task};

const SETTINGS: [&str; 2] = ["maintenance_work_mem = '256MB'", "max_parallel_maintenance_workers = 1"];

struct Options {
    many: Shape,
    few: Shape,
    load: Shape,
    rounds: usize,
    /// What is measured; `None`: everything.
    only: Option<String>,
    dir: PathBuf,
}

impl Options {
    fn has(&self, what: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == what)
    }
}

fn main() -> Outcome<()> {
    let options = options()?;
    let Some(cluster) = fleet::cluster(&SETTINGS) else { return Ok(()) };
    let _ = fs::remove_dir_all(&options.dir);
    fs::create_dir_all(&options.dir)?;
    let mut report = Report::new(&options.dir);
    if options.has("backups") || options.has("restores") {
        whole_fleet(&cluster, &options, &mut report)?;
    }
    if options.has("loads") {
        loading(&cluster, &options, &mut report)?;
    }
    report.print();
    report.write()
}

/// Backups of the many, and one of them restored, in turns with one of a few and with the way around
/// through the whole cluster.
fn whole_fleet(cluster: &Postgres, options: &Options, report: &mut Report) -> Outcome<()> {
    let many = Database::make(cluster, "many", &options.many)?;
    report.sized("many", &many)?;
    if options.has("backups") {
        backups::measure(&many, options, report)?;
    }
    if options.has("restores") {
        restores(&many, options, report)?;
    }
    many.drop_it()
}

fn restores(many: &Database<'_>, options: &Options, report: &mut Report) -> Outcome<()> {
    // Before the other databases are there: they would be copied too.
    let beside = Beside::back_up(many.cluster, &options.dir)?;
    let few = Database::make(many.cluster, "few", &options.few)?;
    report.sized("few", &few)?;
    let (of_many, of_few) = (Lifeboat::init(many, &options.dir)?, Lifeboat::init(&few, &options.dir)?);
    for lifeboat in [&of_many, &of_few] {
        lifeboat.back_up_site(MEASURED)?;
    }
    for number in 0..options.rounds {
        for (task, lifeboat, database) in [(Task::Restore, &of_many, many), (Task::RestoreFew, &of_few, &few)] {
            let whole = database.picture(MEASURED)?;
            database.delete(MEASURED)?;
            report.add(task, "lifeboat", lifeboat.restore(MEASURED)?);
            database.expect_same(MEASURED, &whole)?;
        }
        if number == 0 {
            beside.measure(many, report)?;
        }
        println!("round {} of {}: load average {}", number + 1, options.rounds, machine::load_average());
    }
    beside.remove()?;
    few.drop_it()
}

/// Many rows of one site, by us and by bare `COPY`.
fn loading(cluster: &Postgres, options: &Options, report: &mut Report) -> Outcome<()> {
    let database = Database::make(cluster, "load", &options.load)?;
    report.sized("load", &database)?;
    let lifeboat = Lifeboat::init(&database, &options.dir)?;
    lifeboat.back_up_site(MEASURED)?;
    let files = load::copy_out(&database)?;
    for number in 0..options.rounds {
        load::one_round(&database, &lifeboat, &files, report)?;
        println!("round {} of {}: load average {}", number + 1, options.rounds, machine::load_average());
    }
    database.drop_it()
}

fn options() -> Outcome<Options> {
    let arguments = Arguments::of_process();
    let number = |name: &str, otherwise: u32| arguments.number(name, otherwise);
    // sites, the few, rows of each, of the measured one, of the loaded one, rounds
    let (kind, [sites, few, rows, measured, load, rounds]) = match arguments.size() {
        Size::Full => ("pooled", [1_000, 100, 9_000, 72_000, 300_000, 5]),
        Size::Quick => ("pooled-quick", [100, 20, 8_000, 72_000, 60_000, 2]),
        Size::Tiny => ("pooled-tiny", [4, 2, 200, 600, 1_000, 1]),
    };
    let rows = number("--rows", rows)?;
    let measured = number("--measured-rows", measured)?;
    Ok(Options {
        many: Shape { sites: number("--sites", sites)?, rows, measured },
        few: Shape { sites: number("--few", few)?, rows, measured },
        load: Shape { sites: number("--few", few)?, rows: rows / 4, measured: number("--load-rows", load)? },
        rounds: number("--rounds", rounds)? as usize,
        only: arguments.text("--only").map(str::to_owned),
        dir: arguments::directory().join(kind),
    })
}
