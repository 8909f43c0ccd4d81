//! What came out: one table for people, aims met or missed, and every run as JSON.

use std::fs;
use std::path::Path;

use lifeboat_bench::process::{Cost, Spread};
use lifeboat_bench::target::Target;
use lifeboat_bench::{Outcome, machine, table};
use lifeboat_model::Timestamp;
use serde_json::{Value, json};

use crate::Options;
use crate::aims;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    FirstNight,
    Unchanged,
    Changed,
    Daemon,
    Sites,
    Status,
    Points,
    Rebuild,
    Forget,
    Condemn,
    Delete,
    Large,
    LargeChanged,
    LargeCondemn,
    LargeDelete,
}

impl Task {
    pub const OF_THE_CATALOG: [Task; 4] = [Task::Sites, Task::Status, Task::Points, Task::Rebuild];

    pub fn name(self, options: &Options) -> String {
        match self {
            Self::FirstNight => "first night: all are new".into(),
            Self::Unchanged => "a night: none has changed".into(),
            Self::Changed => format!("a night: {} % have changed", options.changed),
            Self::Daemon => format!("`lifeboat run`, nights: {}", options.nights),
            Self::Sites => "`sites`".into(),
            Self::Status => "`status`".into(),
            Self::Points => "`points SITE`".into(),
            Self::Rebuild => "`catalog rebuild`".into(),
            Self::Forget => "`forget --all --yes`".into(),
            Self::Condemn => "`prune --yes`, which condemns".into(),
            Self::Delete => "`prune --yes`, which deletes".into(),
            Self::Large => format!("first backup of {} chunks", count(options.chunks)),
            Self::LargeChanged => format!("backup of {} chunks, a tenth changed", count(options.chunks)),
            Self::LargeCondemn => format!("`prune --yes` of {} chunks, which condemns", count(options.chunks)),
            Self::LargeDelete => format!("`prune --yes` of {} chunks, which deletes", count(options.chunks)),
        }
    }

    /// Whether it does something with each site of the fleet, once.
    pub fn is_of_each_site(self) -> bool {
        !matches!(
            self,
            Self::Daemon | Self::Points | Self::Large | Self::LargeChanged | Self::LargeCondemn | Self::LargeDelete
        )
    }
}

/// One process, measured.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    task: Task,
    place: &'static str,
    sites: usize,
    cost: Cost,
    requests: Option<usize>,
    /// What this process had held when it started the other one: a peak that is no larger cannot be told from it.
    own_peak_bytes: u64,
}

/// Runs that can be compared: the same, in several rounds.
pub type Kind = (Task, &'static str, usize);

pub struct Report {
    options: Options,
    machine: Value,
    /// In the order in which they ran.
    runs: Vec<Run>,
}

impl Report {
    pub fn new(options: &Options) -> Self {
        Self { options: options.clone(), machine: machine::facts(&options.dir), runs: Vec::new() }
    }

    pub fn add(&mut self, task: Task, place: &'static str, sites: usize, (cost, requests): (Cost, Option<usize>)) {
        let name = task.name(&self.options);
        println!(
            "{name:<50} {place:<9} {:>7} sites: wall {:.2} s, user {:.2} s, sys {:.2} s, peak {:.0} MB",
            count(sites),
            cost.wall_seconds,
            cost.user_seconds,
            cost.sys_seconds,
            cost.peak_bytes as f64 / 1e6,
        );
        let own_peak_bytes = machine::own_peak_bytes();
        self.runs.push(Run { task, place, sites, cost, requests, own_peak_bytes });
    }

    /// Every kind of run that there was, in the order of the tasks; of one task in the order in which they ran.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = Vec::new();
        for run in &self.runs {
            let kind = (run.task, run.place, run.sites);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.sort_by_key(|(task, ..)| *task);
        kinds
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| (run.task, run.place, run.sites) == kind)
    }

    pub fn spread(&self, kind: Kind, of: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.of(kind).map(|run| of(&run.cost)))
    }

    /// One kind by another, round by round.
    pub fn ratio(&self, kind: Kind, by: Kind, of: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.of(kind).zip(self.of(by)).map(|(run, other)| of(&run.cost) / of(&other.cost)))
    }

    pub fn requests_a_site(&self, kind: Kind) -> Spread {
        Spread::of(self.of(kind).filter_map(|run| Some(run.requests? as f64 / run.sites as f64)))
    }

    pub fn print(&self) {
        println!("\n{}; machine: {}; load average now {}\n", Timestamp::now(), self.machine, machine::load_average());
        let heading =
            ["what", "store", "sites", "wall s", "wall ms a site", "CPU ms a site", "requests a site", "peak MB"];
        let rows: Vec<Vec<String>> = self.kinds().into_iter().map(|kind| self.row(kind)).collect();
        print!("{}", table::text(&heading, &rows));
        let aims = aims::of(self, &self.options);
        let rows: Vec<Vec<String>> = aims.iter().map(Target::row).collect();
        print!("{}", table::text(&["aim", "wanted", "measured", "met"], &rows));
        let met = aims.iter().filter(|aim| aim.is_met()).count();
        println!("Of {} aims {met} are met, {} missed.", aims.len(), aims.len() - met);
        if self.options.rounds > 1 {
            println!("What was measured several times: the median, with the smallest and the largest.");
        }
    }

    fn row(&self, kind: Kind) -> Vec<String> {
        let (task, place, sites) = kind;
        let of_each = |of: fn(&Cost) -> f64| match task.is_of_each_site() {
            true => show(self.spread(kind, |cost| of(cost) * 1e3 / sites as f64), 2),
            false => String::new(),
        };
        vec![
            task.name(&self.options),
            place.to_owned(),
            count(sites),
            // The daemon's is mostly that of waiting for the next night.
            if task == Task::Daemon { String::new() } else { show(self.spread(kind, |cost| cost.wall_seconds), 2) },
            of_each(|cost| cost.wall_seconds),
            of_each(Cost::cpu_seconds),
            show(self.requests_a_site(kind), 2),
            self.peak(kind),
        ]
    }

    fn peak(&self, kind: Kind) -> String {
        let spread = self.spread(kind, |cost| cost.peak_bytes as f64 / 1e6);
        let own = self.of(kind).map(|run| run.own_peak_bytes).max().unwrap_or(0) as f64 / 1e6;
        if spread.max <= own { format!("<{:.0}", own.ceil()) } else { show(spread, 0) }
    }

    pub fn write(&self) -> Outcome<()> {
        let whole = json!({
            "bench": "night",
            "date": Timestamp::now().to_string(),
            "options": self.options.json(),
            "machine": self.machine,
            "load_average_at_end": machine::load_average(),
            "runs": self.runs.iter().map(|run| run.json(&self.options)).collect::<Vec<_>>(),
            "aims": aims::of(self, &self.options).iter().map(Target::json).collect::<Vec<_>>(),
        });
        let file = &self.options.json;
        fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
        fs::write(file, format!("{whole:#}\n"))?;
        println!("every run: {}", file.display());
        Ok(())
    }
}

impl Run {
    fn json(&self, options: &Options) -> Value {
        json!({
            "task": self.task.name(options),
            "store": self.place,
            "sites": self.sites,
            "wall_seconds": self.cost.wall_seconds,
            "user_seconds": self.cost.user_seconds,
            "sys_seconds": self.cost.sys_seconds,
            "peak_bytes": self.cost.peak_bytes,
            "bench_peak_bytes": self.own_peak_bytes,
            "requests": self.requests,
        })
    }
}

/// Numbers that are all the same stand alone; what was not measured is left empty.
fn show(spread: Spread, decimals: usize) -> String {
    let [min, median, max] = [spread.min, spread.median, spread.max].map(|number| format!("{number:.decimals$}"));
    match (spread.median.is_nan(), min == max) {
        (true, _) => String::new(),
        (false, true) => median,
        (false, false) => spread.show(decimals),
    }
}

/// `10,000`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
