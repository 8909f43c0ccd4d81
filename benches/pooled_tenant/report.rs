//! What came out: a table for people, gates met or not, and the same as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fleet::Database;
use lifeboat_bench::process::{Cost, Spread};
use lifeboat_bench::target::Target;
use lifeboat_bench::{Outcome, machine, table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    FirstBackup,
    UnchangedBackup,
    NightBackup,
    Restore,
    RestoreFew,
    Load,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Task::FirstBackup => "first backup of all",
            Task::UnchangedBackup => "backup of all, nothing changed",
            Task::NightBackup => "backup of all, 1 % of the sites changed",
            Task::Restore => "restore of one site of many",
            Task::RestoreFew => "restore of one site of few",
            Task::Load => "load of one large site",
        }
    }
}

pub struct Report {
    file: PathBuf,
    machine: Value,
    databases: Vec<Value>,
    stored: BTreeMap<&'static str, u64>,
    runs: BTreeMap<(Task, &'static str), Vec<Cost>>,
}

impl Report {
    pub fn new(dir: &Path) -> Self {
        Self {
            file: dir.with_extension("json"),
            machine: machine::facts(dir),
            databases: Vec::new(),
            stored: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }

    pub fn sized(&mut self, name: &str, database: &Database<'_>) -> Outcome<()> {
        let (bytes, site) = database.sizes()?;
        let shape = database.shape;
        println!(
            "database {name}: {} sites, {:.2} GB; the measured site: {} rows, {:.1} MB as text",
            shape.sites,
            bytes as f64 / 1e9,
            shape.measured,
            site as f64 / 1e6
        );
        self.databases.push(json!({
            "name": name, "sites": shape.sites, "bytes": bytes, "rows_of_a_site": shape.rows,
            "rows_of_the_measured_site": shape.measured, "bytes_of_the_measured_site": site,
        }));
        Ok(())
    }

    /// Bytes a backup takes where it lies.
    pub fn stored(&mut self, contender: &'static str, bytes: u64) {
        self.stored.insert(contender, bytes);
    }

    pub fn add(&mut self, task: Task, contender: &'static str, cost: Cost) {
        println!(
            "{:<40} {contender:<26} wall {:.2} s, user {:.2} s, sys {:.2} s, peak {:.0} MB",
            task.name(),
            cost.wall_seconds,
            cost.user_seconds,
            cost.sys_seconds,
            cost.peak_bytes as f64 / 1e6,
        );
        self.runs.entry((task, contender)).or_default().push(cost);
    }

    fn spread(&self, task: Task, contender: &'static str, of: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.runs.get(&(task, contender)).into_iter().flatten().map(of))
    }

    fn wall(&self, task: Task, contender: &'static str) -> f64 {
        self.spread(task, contender, |cost| cost.wall_seconds).median
    }

    pub fn print(&self) {
        println!("\nmachine: {}; load average now {}\n", self.machine, machine::load_average());
        let rows: Vec<Vec<String>> = self.runs.keys().map(|&(task, contender)| self.row(task, contender)).collect();
        let heading = ["task", "program", "wall s", "user s", "sys s", "peak MB", "wall / lifeboat's", "stored MB"];
        print!("{}", table::text(&heading, &rows));
        let rows: Vec<Vec<String>> = self.targets().iter().map(Target::row).collect();
        print!("{}", table::text(&["target", "aim", "measured", "met"], &rows));
    }

    fn row(&self, task: Task, contender: &'static str) -> Vec<String> {
        let spread = |of: &dyn Fn(&Cost) -> f64| self.spread(task, contender, of);
        let ratio = self.wall(task, contender) / self.wall(task, "lifeboat");
        let stored = self.stored.get(contender).filter(|_| task == Task::FirstBackup);
        vec![
            task.name().to_owned(),
            contender.to_owned(),
            spread(&|cost| cost.wall_seconds).show(2),
            spread(&|cost| cost.user_seconds).show(2),
            spread(&|cost| cost.sys_seconds).show(2),
            spread(&|cost| cost.peak_bytes as f64 / 1e6).show(0),
            format!("{ratio:.2}"),
            stored.map_or(String::new(), |bytes| format!("{:.0}", *bytes as f64 / 1e6)),
        ]
    }

    fn targets(&self) -> Vec<Target> {
        let ours = |task| self.wall(task, "lifeboat");
        let over = |task, other| self.wall(task, other) / ours(task);
        let under = |task, other| ours(task) / self.wall(task, other);
        let peak = self.runs.iter().filter(|((_, contender), _)| *contender == "lifeboat");
        let peak = peak.flat_map(|(_, costs)| costs).map(|cost| cost.peak_bytes).max().unwrap_or(0);
        let flat = ours(Task::Restore) / ours(Task::RestoreFew);
        vec![
            Target::at_least(
                "restore: pg_basebackup beside / ours",
                25.0,
                over(Task::Restore, "pg_basebackup copied back"),
            ),
            Target::at_least("restore: pgBackRest beside / ours", 25.0, over(Task::Restore, "pgbackrest restore")),
            Target::at_most("restore: of many / of few", 1.2, flat),
            Target::at_most("load: ours / bare COPY", 1.3, under(Task::Load, "bare COPY")),
            Target::at_most("load: ours / bare COPY, triggers off", 1.3, under(Task::Load, "bare COPY, triggers off")),
            Target::at_most("first backup: ours / pg_dump -Fd -j2", 1.5, under(Task::FirstBackup, "pg_dump -Fd -j2")),
            Target::at_most(
                "first backup: ours / pg_dump | zstd -3",
                1.5,
                under(Task::FirstBackup, "pg_dump -Fc -Z0 | zstd -3"),
            ),
            Target::at_most("peak MB of any command of ours", 256.0, peak as f64 / 1e6),
        ]
    }

    pub fn write(&self) -> Outcome<()> {
        let runs = self.runs.iter().map(|((task, contender), costs)| {
            let costs = costs.iter().map(|cost| {
                json!({
                    "wall_seconds": cost.wall_seconds, "user_seconds": cost.user_seconds,
                    "sys_seconds": cost.sys_seconds, "peak_bytes": cost.peak_bytes,
                })
            });
            json!({ "task": task.name(), "program": contender, "runs": costs.collect::<Vec<_>>() })
        });
        let whole = json!({
            "bench": "pooled_tenant",
            "machine": self.machine,
            "load_average_at_end": machine::load_average(),
            "databases": self.databases,
            "stored_bytes": self.stored,
            "runs": runs.collect::<Vec<_>>(),
            "targets": self.targets().iter().map(Target::json).collect::<Vec<_>>(),
        });
        fs::write(&self.file, format!("{whole}\n"))?;
        println!("every run: {}", self.file.display());
        Ok(())
    }
}
