//! What came out: a table for people, targets met or not, and the same as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::contenders::Measured;
use lifeboat_bench::process::{Cost, Spread};
use lifeboat_bench::target::Target;
use lifeboat_bench::{Outcome, machine, table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    FirstBackup,
    FirstBackupText,
    UnchangedBackup,
    Restore,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Task::FirstBackup => "first backup of the mix",
            Task::FirstBackupText => "first backup of the text",
            Task::UnchangedBackup => "backup of the unchanged mix",
            Task::Restore => "restore of the mix",
        }
    }

    fn site(self) -> &'static str {
        if self == Task::FirstBackupText { "text" } else { "mix" }
    }
}

pub struct Report {
    file: PathBuf,
    machine: Value,
    place: &'static str,
    restic: Option<String>,
    logical: BTreeMap<&'static str, u64>,
    starts: Vec<Cost>,
    runs: BTreeMap<(Task, &'static str), Vec<Measured>>,
}

impl Report {
    pub fn new(dir: &Path, place: &'static str, restic: Option<&str>) -> Outcome<Self> {
        Ok(Self {
            file: dir.join(format!("one-site-{place}.json")),
            machine: machine::facts(dir),
            place,
            restic: restic.map(str::to_owned),
            logical: BTreeMap::new(),
            starts: Vec::new(),
            runs: BTreeMap::new(),
        })
    }

    /// Bytes of a site as a person counts them.
    pub fn sized(&mut self, site: &'static str, bytes: u64) {
        self.logical.insert(site, bytes);
    }

    /// What one process of restic takes before it works.
    pub fn start(&mut self, cost: Cost) {
        self.starts.push(cost);
    }

    pub fn add(&mut self, task: Task, contender: &'static str, measured: Measured) {
        let Measured { cost, requests, bytes_read } = &measured;
        println!(
            "{:<28} {contender:<24} wall {:.2} s, user {:.2} s, sys {:.2} s, peak {:.0} MB{}{}",
            task.name(),
            cost.wall_seconds,
            cost.user_seconds,
            cost.sys_seconds,
            cost.peak_bytes as f64 / 1e6,
            requests.map_or(String::new(), |requests| format!(", {requests} requests")),
            bytes_read.map_or(String::new(), |bytes| format!(", {:.1} MB read", bytes as f64 / 1e6)),
        );
        self.runs.entry((task, contender)).or_default().push(measured);
    }

    /// The costs of a contender's runs; restic's without its start.
    fn costs(&self, task: Task, contender: &str) -> Vec<Cost> {
        let median = |of: fn(&Cost) -> f64| Spread::of(self.starts.iter().map(of)).median;
        let start = Cost {
            wall_seconds: median(|cost| cost.wall_seconds),
            user_seconds: median(|cost| cost.user_seconds),
            sys_seconds: median(|cost| cost.sys_seconds),
            peak_bytes: 0,
        };
        let runs = self.runs.iter().find(|((of, name), _)| (*of, *name) == (task, contender)).map(|(_, runs)| runs);
        let costs = runs.into_iter().flatten().map(|run| run.cost);
        costs.map(|cost| if contender == "restic" { cost.without(&start) } else { cost }).collect()
    }

    fn spread(&self, task: Task, contender: &str, of: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.costs(task, contender).iter().map(of))
    }

    pub fn print(&self) {
        println!("\nrepository: {}; machine: {}", self.place, self.machine);
        match (&self.restic, self.starts.is_empty()) {
            (Some(version), false) => {
                let start = Spread::of(self.starts.iter().map(|cost| cost.wall_seconds));
                println!("{version}; its start, taken off below: {} s wall\n", start.show(2));
            }
            _ => println!("no restic was found (`RESTIC` names one): nothing to compare with\n"),
        }
        let rows: Vec<Vec<String>> = self.runs.keys().map(|&(task, contender)| self.row(task, contender)).collect();
        let heading = [
            "task",
            "program",
            "wall s",
            "user s",
            "sys s",
            "peak MB",
            "MB/s wall",
            "MB/s a core",
            "user s a GB",
            "wall / lifeboat's",
            "requests",
        ];
        print!("{}", table::text(&heading, &rows));
        let rows: Vec<Vec<String>> = self.targets().iter().map(Target::row).collect();
        print!("{}", table::text(&["target", "aim", "measured", "met"], &rows));
    }

    fn row(&self, task: Task, contender: &'static str) -> Vec<String> {
        let megabytes = self.logical.get(task.site()).copied().unwrap_or(0) as f64 / 1e6;
        let spread = |of: &dyn Fn(&Cost) -> f64| self.spread(task, contender, of);
        let ratio = spread(&|cost| cost.wall_seconds).median / self.spread(task, "lifeboat", |c| c.wall_seconds).median;
        let requests = self.runs[&(task, contender)].iter().filter_map(|run| run.requests).max();
        vec![
            task.name().to_owned(),
            contender.to_owned(),
            spread(&|cost| cost.wall_seconds).show(2),
            spread(&|cost| cost.user_seconds).show(2),
            spread(&|cost| cost.sys_seconds).show(2),
            spread(&|cost| cost.peak_bytes as f64 / 1e6).show(0),
            format!("{:.0}", megabytes / spread(&|cost| cost.wall_seconds).median),
            format!("{:.0}", megabytes / spread(&Cost::cpu_seconds).median),
            format!("{:.2}", spread(&|cost| cost.user_seconds).median / megabytes * 1e3),
            format!("{ratio:.2}"),
            requests.map_or(String::new(), |requests| requests.to_string()),
        ]
    }

    fn targets(&self) -> Vec<Target> {
        let gigabytes = |site: &str| self.logical.get(site).copied().unwrap_or(0) as f64 / 1e9;
        let ours = |task: Task, of: fn(&Cost) -> f64| self.spread(task, "lifeboat", of).median;
        let rate = |task: Task| gigabytes(task.site()) * 1e3 / ours(task, Cost::cpu_seconds);
        let restic = self.spread(Task::Restore, "restic", |cost| cost.wall_seconds).median;
        let unchanged = self.runs.get(&(Task::UnchangedBackup, "lifeboat")).into_iter().flatten();
        let requests = unchanged.filter_map(|run| run.requests).max().map_or(f64::NAN, |requests| requests as f64);
        vec![
            Target::at_most(
                "restore: user s a logical GB",
                1.5,
                ours(Task::Restore, |c| c.user_seconds) / gigabytes("mix"),
            ),
            Target::at_most("restore: peak MB", 128.0, ours(Task::Restore, |c| c.peak_bytes as f64 / 1e6)),
            Target::at_most("restore: wall / restic's", 1.0, ours(Task::Restore, |c| c.wall_seconds) / restic),
            Target::at_least("first backup of the mix: MB/s a core", 300.0, rate(Task::FirstBackup)),
            Target::at_least("first backup of the text: MB/s a core", 220.0, rate(Task::FirstBackupText)),
            Target::at_most("unchanged site: requests", 4.0, requests),
        ]
    }

    pub fn write(&self) -> Outcome<()> {
        let runs = self.runs.iter().flat_map(|((task, contender), runs)| {
            runs.iter().enumerate().map(move |(round, run)| {
                json!({
                    "task": task.name(),
                    "program": contender,
                    "round": round,
                    "wall_seconds": run.cost.wall_seconds,
                    "user_seconds": run.cost.user_seconds,
                    "sys_seconds": run.cost.sys_seconds,
                    "peak_bytes": run.cost.peak_bytes,
                    "requests": run.requests,
                    "bytes_read": run.bytes_read,
                })
            })
        });
        let whole = json!({
            "bench": "one_site",
            "repository": self.place,
            "machine": self.machine,
            "load_average_at_end": machine::load_average(),
            "restic": self.restic,
            "restic_start_wall_seconds": self.starts.iter().map(|cost| cost.wall_seconds).collect::<Vec<_>>(),
            "logical_bytes": self.logical,
            "runs": runs.collect::<Vec<_>>(),
            "targets": self.targets().iter().map(Target::json).collect::<Vec<_>>(),
        });
        fs::write(&self.file, format!("{whole}\n"))?;
        println!("every run: {}", self.file.display());
        Ok(())
    }
}
