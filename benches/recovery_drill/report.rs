//! What the drill has shown, beside what was wanted of it.

use std::fs;
use std::path::Path;

use lifeboat_bench::process::{Cost, Spread};
use lifeboat_bench::target::Target;
use lifeboat_bench::{Outcome, machine, table};
use lifeboat_model::Timestamp;
use serde_json::{Value, json};

use crate::Drill;
use crate::ours::Run;
use crate::traffic::Latencies;

/// In April 2022, over 328 hours.
const ATLASSIAN_SITES_PER_HOUR: f64 = 2.7;

pub struct Report {
    drill: Drill,
    machine: Value,
    backup: Cost,
    alone: Vec<f64>,
    facts: Vec<(&'static str, f64)>,
    targets: Vec<Target>,
    bytes_read: u64,
    errors: Vec<String>,
}

impl Report {
    pub fn new(drill: &Drill) -> Self {
        Self {
            drill: drill.clone(),
            machine: machine::facts(&drill.dir),
            backup: Cost::default(),
            alone: Vec::new(),
            facts: Vec::new(),
            targets: Vec::new(),
            bytes_read: 0,
            errors: Vec::new(),
        }
    }

    pub fn backup(&mut self, cost: Cost) {
        println!("backed up in {:.1} s, {:.0} MB", cost.wall_seconds, cost.peak_bytes as f64 / 1e6);
        self.backup = cost;
    }

    pub fn alone(&mut self, cost: Cost) {
        println!("a mean site restored alone: {:.2} s", cost.wall_seconds);
        self.alone.push(cost.wall_seconds);
    }

    pub fn recovery(&mut self, planned: &Cost, run: &Run) {
        let lost = f64::from(self.drill.lost);
        let alone = self.alone.iter().sum::<f64>() / self.alone.len().max(1) as f64;
        let wall = run.cost.wall_seconds;
        let first = run.back_after.first().copied().unwrap_or(f64::NAN);
        let peak = run.cost.peak_bytes as f64 / 1e6;
        let middle = run.back_after.get(run.back_after.len() / 2).copied().unwrap_or(f64::NAN);
        self.bytes_read = run.bytes_read;
        self.facts.extend([
            ("a mean site restored alone, s (mean)", alone),
            ("plan, s", planned.wall_seconds),
            ("plan, peak MB", planned.peak_bytes as f64 / 1e6),
            ("run, s", wall),
            ("run, user s", run.cost.user_seconds),
            ("run, sys s", run.cost.sys_seconds),
            ("run, peak MB", peak),
            ("first site back after, s", first),
            ("half of them back after, s", middle),
            ("sites restored", run.back_after.len() as f64),
            ("sites failed", run.failed as f64),
            ("sites an hour", run.back_after.len() as f64 * 3600.0 / wall),
            ("sites an hour, Atlassian in April 2022", ATLASSIAN_SITES_PER_HOUR),
            ("bytes read, MB", run.bytes_read as f64 / 1e6),
            ("requests", run.requests as f64),
        ]);
        let ratio = wall / (lost * alone);
        self.targets.extend([
            Target::at_most("wall / (lost sites x one mean site alone)", 0.7, ratio),
            Target::at_most("first site back, s", 5.0, first),
            Target::at_most("peak memory, MB", 512.0, peak),
            Target::at_most("sites not restored", 0.0, lost - run.back_after.len() as f64),
        ]);
    }

    pub fn bystanders(&mut self, quiet: &Latencies, during: &Latencies, errors: Vec<String>) {
        let (p99, p99_quiet) = (during.percentile(99), quiet.percentile(99));
        self.facts.extend([
            ("busy sites: transactions in quiet", quiet.count() as f64),
            ("busy sites: transactions meanwhile", during.count() as f64),
            ("busy sites: p50 in quiet, ms", quiet.percentile(50) * 1e3),
            ("busy sites: p50 meanwhile, ms", during.percentile(50) * 1e3),
            ("busy sites: p99 in quiet, ms", p99_quiet * 1e3),
            ("busy sites: p99 meanwhile, ms", p99 * 1e3),
        ]);
        self.targets.extend([
            Target::at_most("busy sites: errors", 0.0, errors.len() as f64),
            Target::at_most("busy sites: p99 meanwhile / in quiet", 2.0, p99 / p99_quiet),
        ]);
        self.errors = errors;
    }

    pub fn needed(&mut self, bytes: u64) {
        let ratio = self.bytes_read as f64 / bytes as f64;
        self.facts.push(("bytes of their snapshots, MB", bytes as f64 / 1e6));
        self.targets.push(Target::at_most("bytes read / of their snapshots", 1.2, ratio));
    }

    pub fn print(&self) {
        let Drill { sites, lost, busy, rows, parallel, .. } = &self.drill;
        println!("\n{lost} of {sites} sites of about {rows} rows and 4 files, {busy} busy, {parallel} at once");
        let facts: Vec<Vec<String>> =
            self.facts.iter().map(|(name, value)| vec![(*name).to_owned(), format!("{value:.2}")]).collect();
        print!("\n{}", table::text(&["what", "measured"], &facts));
        let targets: Vec<Vec<String>> = self.targets.iter().map(Target::row).collect();
        print!("{}", table::text(&["target", "aim", "measured", "met"], &targets));
        for error in &self.errors {
            println!("a busy site's user saw: {error}");
        }
        println!("load average {}", machine::load_average());
    }

    /// How fast it was is told; that all came back and that nobody else saw anything must hold at any size.
    pub fn refuse_wrong(&self) -> Outcome<()> {
        let restored = self.facts.iter().find(|(name, _)| *name == "sites restored").map_or(0.0, |(_, count)| *count);
        match restored == f64::from(self.drill.lost) && self.errors.is_empty() {
            true => Ok(()),
            false => {
                Err(format!("{restored} of {} are back, busy sites saw {} errors", self.drill.lost, self.errors.len())
                    .into())
            }
        }
    }

    /// Numbers of the full size are worth keeping.
    pub fn write(&self) -> Outcome<()> {
        if !self.drill.is_measured {
            return Ok(());
        }
        let spread = Spread::of(self.alone.iter().copied());
        let facts: serde_json::Map<_, _> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let json = json!({
            "date": Timestamp::now().to_string(),
            "machine": self.machine,
            "sites": self.drill.sites,
            "lost": self.drill.lost,
            "busy": self.drill.busy,
            "rows": self.drill.rows,
            "parallel": self.drill.parallel,
            "alone_seconds": self.alone,
            "alone_spread": spread.json(),
            "backup_seconds": self.backup.wall_seconds,
            "facts": facts,
            "targets": self.targets.iter().map(Target::json).collect::<Vec<_>>(),
            "errors": self.errors,
        });
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/recovery-drill.json");
        fs::write(&path, serde_json::to_string_pretty(&json)?)?;
        println!("every number: {}", path.display());
        Ok(())
    }
}
