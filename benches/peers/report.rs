//! What came out: one table for people, aims met or not, and every run as JSON.
//!
//! Ratios are made within a round, of two processes that ran one after the other, and then the smallest, the
//! median and the largest of the rounds are taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_bench::process::{Cost, Spread};
use lifeboat_bench::target::Target;
use lifeboat_bench::{Outcome, machine, table};
use serde_json::{Value, json};

use crate::aims;
use crate::contender::Measured;
use crate::data::Site;
use crate::floors::{Copy, RangedReads};
use crate::options::Options;
use crate::ours::LIFEBOAT;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    FirstBackup(Site),
    UnchangedBackup(Site),
    Restore(Site),
}

impl Task {
    fn name(self) -> String {
        match self {
            Task::FirstBackup(site) => format!("first backup: {}", site.title()),
            Task::UnchangedBackup(site) => format!("unchanged backup: {}", site.title()),
            Task::Restore(site) => format!("restore: {}", site.title()),
        }
    }

    fn site(self) -> Site {
        match self {
            Task::FirstBackup(site) | Task::UnchangedBackup(site) | Task::Restore(site) => site,
        }
    }
}

/// One process, measured.
struct Run {
    task: Task,
    contender: &'static str,
    round: usize,
    measured: Measured,
}

pub struct Report {
    /// `directory`, `s3` or `far`.
    pub place: &'static str,
    /// Of each connection, where there is a link.
    pub bytes_per_second: Option<u64>,
    options: Value,
    file: PathBuf,
    machine: Value,
    notes: Vec<String>,
    logical: BTreeMap<Site, u64>,
    starts: BTreeMap<&'static str, Vec<Cost>>,
    /// In the order in which they ran.
    runs: Vec<Run>,
}

impl Report {
    pub fn new(options: &Options) -> Self {
        let place = options.place();
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        let dir = if options.is_measured() { &results } else { &options.data };
        let distance = options.distance;
        Self {
            place,
            bytes_per_second: distance.and_then(|distance| distance.bytes_per_second),
            options: json!({
                "size": options.size.name(),
                "rounds": options.rounds,
                "round_trip_milliseconds": distance.map(|distance| distance.round_trip.as_millis() as u64),
                "bytes_per_second_of_a_connection": distance.and_then(|distance| distance.bytes_per_second),
            }),
            file: dir.join(options.file_name()),
            machine: machine::facts(&options.data),
            notes: Vec::new(),
            logical: BTreeMap::new(),
            starts: BTreeMap::new(),
            runs: Vec::new(),
        }
    }

    /// Something to say once: a version, or who takes no part and why.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Bytes of a site as a person counts them.
    pub fn sized(&mut self, site: Site, bytes: u64) {
        self.logical.insert(site, bytes);
    }

    pub fn start(&mut self, contender: &'static str, cost: Cost) {
        self.starts.entry(contender).or_default().push(cost);
    }

    pub fn add(&mut self, task: Task, contender: &'static str, measured: Measured) {
        let cost = &measured.cost;
        println!(
            "{:<38} {contender:<24} wall {:.2} s, user {:.2} s, sys {:.2} s, peak {:.0} MB",
            task.name(),
            cost.wall_seconds,
            cost.user_seconds,
            cost.sys_seconds,
            cost.peak_bytes as f64 / 1e6,
        );
        let round = self.measured(task, contender).len();
        self.runs.push(Run { task, contender, round, measured });
    }

    pub fn gigabytes(&self, site: Site) -> f64 {
        self.logical.get(&site).map_or(f64::NAN, |bytes| *bytes as f64 / 1e9)
    }

    fn measured(&self, task: Task, contender: &str) -> Vec<Measured> {
        let runs = self.runs.iter().filter(|run| run.task == task && run.contender == contender);
        runs.map(|run| run.measured).collect()
    }

    /// The costs of a contender's runs, round by round, without its start.
    fn costs(&self, task: Task, contender: &str) -> Vec<Cost> {
        let starts = self.starts.get(contender).map(Vec::as_slice).unwrap_or_default();
        let costs = self.measured(task, contender).into_iter().map(|run| run.cost);
        if starts.is_empty() {
            return costs.collect();
        }
        let median = |of: fn(&Cost) -> f64| Spread::of(starts.iter().map(of)).median;
        let start = Cost {
            wall_seconds: median(|cost| cost.wall_seconds),
            user_seconds: median(|cost| cost.user_seconds),
            sys_seconds: median(|cost| cost.sys_seconds),
            peak_bytes: 0,
        };
        costs.map(|cost| cost.without(&start)).collect()
    }

    pub fn spread(&self, task: Task, contender: &str, of: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.costs(task, contender).iter().map(of))
    }

    /// Ours by another's (or of one task by another), round by round. A process that took no longer than its start
    /// has left nothing to compare with.
    pub fn ratio(&self, (task, contender): (Task, &str), by: (Task, &str), of: impl Fn(&Cost) -> f64) -> Spread {
        let (costs, others) = (self.costs(task, contender), self.costs(by.0, by.1));
        let ratios = costs.iter().zip(&others).map(|(cost, other)| of(cost) / of(other));
        Spread::of(ratios.filter(|ratio| ratio.is_finite() && *ratio > 0.0))
    }

    pub fn requests(&self, task: Task, contender: &str) -> Option<u64> {
        self.measured(task, contender).iter().filter_map(|run| run.requests).max()
    }

    pub fn bytes_read(&self, task: Task, contender: &str) -> Option<u64> {
        self.measured(task, contender).iter().filter_map(|run| run.bytes_read).max()
    }

    pub fn print(&self) {
        println!("\n{}; repositories: {} {}; machine: {}", date(), self.place, self.options, self.machine);
        self.notes.iter().for_each(|note| println!("- {note}"));
        for (contender, starts) in &self.starts {
            let start = Spread::of(starts.iter().map(|cost| cost.wall_seconds));
            println!("- {contender}: its start, taken off below: {} s wall", start.show(2));
        }
        println!();
        let heading = [
            "task",
            "program",
            "wall s",
            "user s",
            "sys s",
            "peak MB",
            "MB/s",
            "CPU s a GB",
            "wall, ours / its",
            "CPU, ours / its",
            "requests",
            "MB read",
        ];
        let mut rows: Vec<(Task, &'static str)> = self.runs.iter().map(|run| (run.task, run.contender)).collect();
        rows.sort_by_key(|(task, contender)| (*task, rank(contender)));
        rows.dedup();
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(task, contender)| self.row(task, contender)).collect();
        print!("{}", table::text(&heading, &rows));
        println!("One tenant of a pooled PostgreSQL beside pg_basebackup, pg_dump and pgBackRest: `pooled_tenant`;");
        println!("requests one after another until the first byte: `many_sites`.\n");
        let rows: Vec<Vec<String>> = aims::of(self).iter().map(Target::row).collect();
        print!("{}", table::text(&["aim", "wanted", "measured", "met"], &rows));
    }

    fn row(&self, task: Task, contender: &'static str) -> Vec<String> {
        let megabytes = self.gigabytes(task.site()) * 1e3;
        let spread = |of: &dyn Fn(&Cost) -> f64| self.spread(task, contender, of);
        let wall = spread(&|cost| cost.wall_seconds);
        let ratio = |of: fn(&Cost) -> f64| match contender {
            LIFEBOAT => String::new(),
            _ => Some(self.ratio((task, LIFEBOAT), (task, contender), of))
                .filter(|ratio| ratio.median.is_finite())
                .map_or(String::new(), |ratio| ratio.show(2)),
        };
        let bytes = self.bytes_read(task, contender);
        vec![
            task.name(),
            contender.to_owned(),
            wall.show(2),
            spread(&|cost| cost.user_seconds).show(2),
            spread(&|cost| cost.sys_seconds).show(2),
            self.peak(task, contender),
            format!("{:.0}", megabytes / wall.median),
            spread(&|cost| cost.cpu_seconds() / megabytes * 1e3).show(2),
            ratio(|cost| cost.wall_seconds),
            ratio(Cost::cpu_seconds),
            self.requests(task, contender).map_or(String::new(), |requests| requests.to_string()),
            bytes.map_or(String::new(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
        ]
    }

    /// A peak that is no larger than what this process held when it started the other one cannot be told from it.
    fn peak(&self, task: Task, contender: &str) -> String {
        let spread = self.spread(task, contender, |cost| cost.peak_bytes as f64 / 1e6);
        let own = machine::own_peak_bytes() as f64 / 1e6;
        if spread.max <= own { format!("<{:.0}", own.ceil()) } else { spread.show(0) }
    }

    pub fn write(&self) -> Outcome<()> {
        let seconds = |costs: &[Cost]| costs.iter().map(|cost| cost.wall_seconds).collect::<Vec<_>>();
        let starts: BTreeMap<_, _> = self.starts.iter().map(|(name, costs)| (name, seconds(costs))).collect();
        let logical: BTreeMap<_, _> = self.logical.iter().map(|(site, bytes)| (site.name(), bytes)).collect();
        let whole = json!({
            "bench": "peers",
            "date": date(),
            "repositories": self.place,
            "options": self.options,
            "programs": self.notes,
            "machine": self.machine,
            "load_average_at_end": machine::load_average(),
            "start_wall_seconds": starts,
            "bench_peak_bytes": machine::own_peak_bytes(),
            "logical_bytes": logical,
            "runs": self.runs.iter().map(Run::json).collect::<Vec<_>>(),
            "aims": aims::of(self).iter().map(Target::json).collect::<Vec<_>>(),
        });
        if let Some(dir) = self.file.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&self.file, format!("{whole:#}\n"))?;
        println!("every run: {}", self.file.display());
        Ok(())
    }
}

impl Run {
    fn json(&self) -> Value {
        let Measured { cost, requests, bytes_read } = self.measured;
        json!({
            "task": self.task.name(),
            "program": self.contender,
            "round": self.round,
            "wall_seconds": cost.wall_seconds,
            "user_seconds": cost.user_seconds,
            "sys_seconds": cost.sys_seconds,
            "peak_bytes": cost.peak_bytes,
            "requests": requests,
            "bytes_read": bytes_read,
        })
    }
}

/// Ours first, the floors last.
fn rank(contender: &str) -> usize {
    let order = [LIFEBOAT, "Lifeboat --verify read", "restic", "rustic", "borg", Copy::NAME, RangedReads::NAME];
    order.iter().position(|name| *name == contender).unwrap_or(order.len())
}

/// Now, in UTC.
fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
