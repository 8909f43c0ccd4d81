//! What was measured: turns of single runs, and what they come to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::process::Cost;
use crate::setting::Setting;
use crate::statistics::{Spread, percentile};

/// One process.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// `None`: it was of all sites.
    pub site: Option<String>,
    pub cost: Cost,
    /// Of the site or the fleet as it is on disk; `None`: that is not what it moved.
    pub logical_bytes: Option<u64>,
    /// What the store was asked, where the program says so.
    pub requests: Option<u64>,
    pub bytes_read: Option<u64>,
    /// Stored bytes of what was restored.
    pub bytes_needed: Option<u64>,
}

/// A task with one setting in one round: all its runs, and how long they took together.
#[derive(Debug, Clone)]
pub struct Turn {
    pub task: String,
    pub setting: Setting,
    pub round: usize,
    /// The sum of its runs; of those at once, from the first's start to the last's end.
    pub wall_seconds: f64,
    pub runs: Vec<Run>,
    /// Other numbers that belong to the task.
    pub numbers: BTreeMap<&'static str, f64>,
}

impl Turn {
    /// Runs one after another.
    pub fn of(task: &str, (setting, round): (&Setting, usize), runs: Vec<Run>) -> Self {
        let wall_seconds = runs.iter().map(|run| run.cost.wall_seconds).sum();
        let (task, setting) = (task.to_owned(), setting.clone());
        Self { task, setting, round, wall_seconds, runs, numbers: BTreeMap::new() }
    }

    fn sum(&self, of: impl Fn(&Run) -> Option<u64>) -> f64 {
        self.runs.iter().map(of).sum::<Option<u64>>().map_or(f64::NAN, |sum| sum as f64)
    }

    fn cpu_seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.cost.cpu_seconds()).sum()
    }

    fn logical_bytes(&self) -> f64 {
        self.sum(|run| run.logical_bytes)
    }

    pub fn json(&self) -> Value {
        let runs = self.runs.iter().map(|run| {
            json!({
                "site": run.site,
                "wall_seconds": run.cost.wall_seconds,
                "user_seconds": run.cost.user_seconds,
                "sys_seconds": run.cost.sys_seconds,
                "peak_bytes": run.cost.peak_bytes,
                "logical_bytes": run.logical_bytes,
                "requests": run.requests,
                "bytes_read": run.bytes_read,
                "bytes_needed": run.bytes_needed,
            })
        });
        json!({
            "task": self.task,
            "setting": self.setting.json(),
            "round": self.round,
            "wall_seconds": self.wall_seconds,
            "numbers": self.numbers,
            "runs": runs.collect::<Vec<_>>(),
        })
    }
}

/// All rounds of a task with one setting.
#[derive(Debug, Clone)]
pub struct Summary {
    pub task: String,
    pub setting: Setting,
    pub runs: usize,
    pub wall_seconds: Spread,
    pub megabytes_per_second: Spread,
    /// Logical megabytes for each second of one core.
    pub megabytes_per_core_second: Spread,
    pub cpu_seconds_per_gigabyte: Spread,
    pub peak_bytes: u64,
    pub requests: Spread,
    /// Bytes read for each that was needed.
    pub read_share: Spread,
    pub sites_per_hour: Spread,
    /// Of all runs of all rounds.
    pub seconds_p50: f64,
    pub seconds_p95: f64,
    pub numbers: BTreeMap<&'static str, Spread>,
}

impl Summary {
    /// One for each task and setting, in the order in which they first came.
    pub fn all(turns: &[Turn]) -> Vec<Self> {
        let mut groups: Vec<(&str, &Setting)> = Vec::new();
        for turn in turns {
            let group = (turn.task.as_str(), &turn.setting);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let of = |(task, setting): (&str, &Setting)| -> Vec<&Turn> {
            turns.iter().filter(|turn| turn.task == task && turn.setting == *setting).collect()
        };
        groups.into_iter().map(|group| Self::of(&of(group), group)).collect()
    }

    fn of(turns: &[&Turn], (task, setting): (&str, &Setting)) -> Self {
        let spread = |of: fn(&Turn) -> f64| Spread::of(turns.iter().map(|turn| of(turn)).filter(|n| n.is_finite()));
        let runs = || turns.iter().flat_map(|turn| &turn.runs);
        let seconds = || runs().map(|run| run.cost.wall_seconds);
        let keys: std::collections::BTreeSet<&'static str> =
            turns.iter().flat_map(|turn| turn.numbers.keys().copied()).collect();
        let numbers = |key: &'static str| Spread::of(turns.iter().filter_map(|turn| turn.numbers.get(key).copied()));
        Self {
            task: task.to_owned(),
            setting: setting.clone(),
            runs: runs().count(),
            wall_seconds: spread(|turn| turn.wall_seconds),
            megabytes_per_second: spread(|turn| turn.logical_bytes() / 1e6 / turn.wall_seconds),
            megabytes_per_core_second: spread(|turn| turn.logical_bytes() / 1e6 / turn.cpu_seconds()),
            cpu_seconds_per_gigabyte: spread(|turn| turn.cpu_seconds() / (turn.logical_bytes() / 1e9)),
            peak_bytes: runs().map(|run| run.cost.peak_bytes).max().unwrap_or(0),
            requests: spread(|turn| turn.sum(|run| run.requests)),
            read_share: spread(|turn| turn.sum(|run| run.bytes_read) / turn.sum(|run| run.bytes_needed)),
            sites_per_hour: spread(|turn| turn.runs.len() as f64 / turn.wall_seconds * 3600.0),
            seconds_p50: percentile(seconds(), 50),
            seconds_p95: percentile(seconds(), 95),
            numbers: keys.into_iter().map(|key| (key, numbers(key))).collect(),
        }
    }

    pub fn json(&self) -> Value {
        let numbers = self.numbers.iter().map(|(key, spread)| ((*key).to_owned(), spread.json()));
        json!({
            "task": self.task,
            "setting": self.setting.json(),
            "runs": self.runs,
            "wall_seconds": self.wall_seconds.json(),
            "megabytes_per_second": self.megabytes_per_second.json(),
            "megabytes_per_core_second": self.megabytes_per_core_second.json(),
            "cpu_seconds_per_gigabyte": self.cpu_seconds_per_gigabyte.json(),
            "peak_bytes": self.peak_bytes,
            "requests": self.requests.json(),
            "read_share": self.read_share.json(),
            "sites_per_hour": self.sites_per_hour.json(),
            "seconds_p50": self.seconds_p50,
            "seconds_p95": self.seconds_p95,
            "numbers": Value::Object(numbers.collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Dimension;

    #[test]
    fn rounds_are_summed_and_runs_are_ranked() {
        let setting = Setting::of([(Dimension::Sites, 2)]);
        let run = |wall_seconds: f64, bytes_read: Option<u64>| Run {
            cost: Cost { wall_seconds, user_seconds: 0.5, sys_seconds: 0.0, peak_bytes: (wall_seconds * 10.0) as u64 },
            logical_bytes: Some(1_000_000),
            bytes_read,
            bytes_needed: Some(500),
            ..Run::default()
        };
        let turns = [
            Turn::of("restore", (&setting, 0), vec![run(1.0, Some(500)), run(3.0, Some(600))]),
            Turn::of("cp", (&setting, 0), vec![run(1.0, None)]),
            Turn::of("restore", (&setting, 1), vec![run(1.0, Some(500)), run(1.0, Some(500))]),
        ];
        let all = Summary::all(&turns);
        assert_eq!(all.iter().map(|one| one.task.as_str()).collect::<Vec<_>>(), ["restore", "cp"]);
        let restore = &all[0];
        assert_eq!((restore.runs, restore.peak_bytes), (4, 30));
        assert_eq!(restore.megabytes_per_second, Spread { min: 0.5, median: 0.75, max: 1.0 });
        assert_eq!(restore.megabytes_per_core_second, Spread { min: 2.0, median: 2.0, max: 2.0 });
        assert_eq!(restore.read_share, Spread { min: 1.0, median: 1.05, max: 1.1 });
        assert_eq!((restore.seconds_p50, restore.seconds_p95), (1.0, 3.0));
        assert!(all[1].read_share.median.is_nan(), "what was not told is not made up");
        assert_eq!(all[1].json()["read_share"], Value::Null);
    }
}
