//! What came out: tables for people, gates met or not, and the same as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lag::FLUSH;
use crate::work::{Backlog, CHANGES};
use lifeboat_bench::process::{Cost, Spread};
use lifeboat_bench::target::Target;
use lifeboat_bench::{Outcome, machine, table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    Capture,
    Follow,
    RestoreBase,
    RestoreEnd,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Task::Capture => "backlog followed to its end",
            Task::Follow => "followed on and on",
            Task::RestoreBase => "restore of one site, its base",
            Task::RestoreEnd => "restore of one site, the end of the day",
        }
    }
}

/// From a step of the work until it is durable.
pub struct Lag {
    pub seconds: Vec<f64>,
    pub changes_a_second: f64,
    pub wanted: f64,
}

/// What resolving and replaying took of a store, beyond what the base takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    pub latency_ms: u64,
    pub seconds: f64,
    pub requests: u64,
    pub bytes: u64,
    /// Of the log: the site's blocks, what is nobody's alone, and the footers.
    pub own_bytes: u64,
    pub shared_bytes: u64,
    pub footer_bytes: u64,
    pub segments: u64,
}

pub struct Report {
    file: PathBuf,
    machine: Value,
    changes: u64,
    log_bytes: u64,
    runs: BTreeMap<(Task, &'static str), Vec<Cost>>,
    lag: Option<Lag>,
    reads: Vec<Read>,
}

impl Report {
    pub fn new(dir: &Path) -> Self {
        Self {
            file: dir.with_extension("json"),
            machine: machine::facts(dir),
            changes: 0,
            log_bytes: 0,
            runs: BTreeMap::new(),
            lag: None,
            reads: Vec::new(),
        }
    }

    pub fn backlog(&mut self, backlog: &Backlog) {
        (self.changes, self.log_bytes) = (backlog.transactions * CHANGES, backlog.log_bytes);
        println!(
            "the backlog: {} changes in {} transactions, {:.0} MB of the server's log, made in {:.1} s",
            self.changes,
            backlog.transactions,
            self.log_bytes as f64 / 1e6,
            backlog.seconds
        );
    }

    pub fn add(&mut self, task: Task, contender: &'static str, cost: Cost) {
        println!(
            "{:<40} {contender:<16} wall {:.2} s, user {:.2} s, sys {:.2} s, peak {:.0} MB",
            task.name(),
            cost.wall_seconds,
            cost.user_seconds,
            cost.sys_seconds,
            cost.peak_bytes as f64 / 1e6,
        );
        self.runs.entry((task, contender)).or_default().push(cost);
    }

    pub fn lag(&mut self, lag: Lag) {
        self.lag = Some(lag);
    }

    pub fn read(&mut self, read: Read) {
        println!("resolved and replayed: {read:?}");
        self.reads.push(read);
    }

    /// By PostgreSQL's own client, of the backlog.
    pub fn received_a_second(&self) -> f64 {
        self.changes as f64 / self.wall(Task::Capture, "pg_recvlogical")
    }

    fn spread(&self, task: Task, contender: &'static str, of: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.runs.get(&(task, contender)).into_iter().flatten().map(of))
    }

    fn wall(&self, task: Task, contender: &'static str) -> f64 {
        self.spread(task, contender, |cost| cost.wall_seconds).median
    }

    fn peak_mb(&self, tasks: &[Task]) -> f64 {
        let runs = self.runs.iter().filter(|((task, contender), _)| tasks.contains(task) && *contender == "lifeboat");
        let peak = runs.flat_map(|(_, costs)| costs).map(|cost| cost.peak_bytes).max();
        peak.map_or(f64::NAN, |peak| peak as f64 / 1e6)
    }

    pub fn print(&self) {
        println!("\nmachine: {}; load average now {}\n", self.machine, machine::load_average());
        let rows: Vec<Vec<String>> = self.runs.keys().map(|&(task, contender)| self.row(task, contender)).collect();
        print!("{}", table::text(&["task", "program", "wall s", "changes/s", "user s", "sys s", "peak MB"], &rows));
        if let Some(lag) = &self.lag {
            let Spread { min, median, max } = Spread::of(lag.seconds.iter().copied());
            let row = vec![
                format!("{:.0} ({:.0} wanted)", lag.changes_a_second, lag.wanted),
                format!("{}", FLUSH.as_secs()),
                format!("{median:.2} ({min:.2}-{max:.2})"),
            ];
            print!("{}", table::text(&["changes/s", "flush interval s", "commit until confirmed s"], &[row]));
        }
        let kb = |bytes: u64| format!("{:.0}", bytes as f64 / 1e3);
        let row = |read: &Read| {
            let bytes = [read.bytes, read.own_bytes, read.footer_bytes, read.shared_bytes].map(kb);
            let first = [read.latency_ms.to_string(), format!("{:.2}", read.seconds), read.requests.to_string()];
            first.into_iter().chain(bytes).chain([read.segments.to_string()]).collect()
        };
        let heading = ["store's ms", "s", "requests", "kB read", "own kB", "footers kB", "shared kB", "segments"];
        if !self.reads.is_empty() {
            print!("{}", table::text(&heading, &self.reads.iter().map(row).collect::<Vec<Vec<String>>>()));
        }
        print!(
            "{}",
            table::text(
                &["target", "aim", "measured", "met"],
                &self.targets().iter().map(Target::row).collect::<Vec<Vec<String>>>(),
            )
        );
    }

    fn row(&self, task: Task, contender: &'static str) -> Vec<String> {
        let spread = |of: &dyn Fn(&Cost) -> f64| self.spread(task, contender, of);
        let rate = match task {
            Task::Capture => format!("{:.0}", self.changes as f64 / self.wall(task, contender)),
            _ => String::new(),
        };
        vec![
            task.name().to_owned(),
            contender.to_owned(),
            spread(&|cost| cost.wall_seconds).show(2),
            rate,
            spread(&|cost| cost.user_seconds).show(2),
            spread(&|cost| cost.sys_seconds).show(2),
            spread(&|cost| cost.peak_bytes as f64 / 1e6).show(0),
        ]
    }

    fn targets(&self) -> Vec<Target> {
        let lag = self.lag.as_ref();
        let lag_max = lag.map_or(f64::NAN, |lag| Spread::of(lag.seconds.iter().copied()).max);
        let near = self.reads.first().copied();
        let read = near.map_or(f64::NAN, |read| read.bytes as f64 / (read.own_bytes + read.footer_bytes) as f64);
        vec![
            Target::at_least(
                "capture: throughput / pg_recvlogical's",
                0.9,
                self.wall(Task::Capture, "pg_recvlogical") / self.wall(Task::Capture, "lifeboat"),
            ),
            Target::at_least(
                "lag: changes a second / half of pg_recvlogical's",
                0.95,
                lag.map_or(f64::NAN, |lag| lag.changes_a_second / lag.wanted),
            ),
            Target::at_most("lag: commit until confirmed, longest, s", FLUSH.as_secs_f64() + 1.0, lag_max),
            Target::at_most("peak MB of a capture, backlog", 128.0, self.peak_mb(&[Task::Capture])),
            Target::at_most("peak MB of a capture, on and on", 128.0, self.peak_mb(&[Task::Follow])),
            Target::at_most(
                "replay: s beyond the restore of the base",
                2.0,
                self.wall(Task::RestoreEnd, "lifeboat") - self.wall(Task::RestoreBase, "lifeboat"),
            ),
            Target::at_most("replay: bytes read / own blocks and footers", 1.2, read),
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
        let reads = self.reads.iter().map(|read| {
            json!({
                "latency_ms": read.latency_ms, "seconds": read.seconds, "requests": read.requests,
                "bytes": read.bytes, "own_bytes": read.own_bytes, "shared_bytes": read.shared_bytes,
                "footer_bytes": read.footer_bytes, "segments": read.segments,
            })
        });
        let whole = json!({
            "bench": "pg_capture",
            "machine": self.machine,
            "load_average_at_end": machine::load_average(),
            "changes": self.changes,
            "log_bytes": self.log_bytes,
            "runs": runs.collect::<Vec<_>>(),
            "lag_seconds": self.lag.as_ref().map(|lag| lag.seconds.clone()),
            "lag_changes_a_second": self.lag.as_ref().map(|lag| lag.changes_a_second),
            "reads": reads.collect::<Vec<_>>(),
            "targets": self.targets().iter().map(Target::json).collect::<Vec<_>>(),
        });
        fs::write(&self.file, format!("{whole}\n"))?;
        println!("every run: {}", self.file.display());
        Ok(())
    }
}
