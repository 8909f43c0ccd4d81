//! A report: everything that was measured, as JSON and as a plot.

use serde_json::{Value, json};

use crate::plot::{Line, Panel, svg};
use crate::setting::{Dimension, Setting, swept};
use crate::statistics::Spread;
use crate::{FLOOR, Measured, Summary, Turn, machine};

/// Of a panel: more would hide each other.
const LINES_MAX: usize = 6;

/// What a plot shows of each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    MegabytesPerSecond,
    SitesPerHour,
    CorePercent,
}

impl Shown {
    fn title(self) -> &'static str {
        match self {
            Self::MegabytesPerSecond => "MB/s",
            Self::SitesPerHour => "sites an hour",
            Self::CorePercent => "% of a core",
        }
    }

    fn of(self, summary: &Summary) -> Spread {
        match self {
            Self::MegabytesPerSecond => summary.megabytes_per_second,
            Self::SitesPerHour => summary.sites_per_hour,
            Self::CorePercent => {
                summary.numbers.get("core_percent").copied().unwrap_or_else(|| Spread::of(std::iter::empty()))
            }
        }
    }
}

/// What is known beside what was measured.
#[derive(Debug, Clone)]
pub struct About {
    /// `restore`, `backup`, `recover` or `capture`.
    pub bench: &'static str,
    pub shown: Shown,
    /// The whole command line.
    pub command: Vec<String>,
    pub version: String,
    pub date: String,
    pub seed: u64,
    pub rounds: usize,
    /// What each fleet was asked to be; null where it was taken.
    pub shape: Value,
    /// Without secrets.
    pub repository: String,
    /// Before the first run, as [`machine::facts`] has it.
    pub machine: Value,
    /// How it was proven that what came back is what was lost.
    pub proof: &'static str,
}

/// A bench that came to its end.
#[derive(Debug)]
pub struct Report {
    pub about: About,
    pub measured: Measured,
    pub summaries: Vec<Summary>,
    /// What this process held at its most. The peak of a process that it ran cannot be told apart from it.
    pub runner_peak_bytes: u64,
}

impl Report {
    pub fn new(about: About, measured: Measured) -> Self {
        let summaries = Summary::all(&measured.turns);
        Self { about, measured, summaries, runner_peak_bytes: machine::own_peak_bytes() }
    }

    pub fn json(&self) -> Value {
        let About { bench, command, version, date, seed, rounds, shape, repository, machine, proof, .. } = &self.about;
        json!({
            "bench": bench,
            "command": command,
            "version": version,
            "date": date,
            "seed": seed,
            "rounds": rounds,
            "shape": shape,
            "fleets": self.measured.fleets,
            "repository": repository,
            "machine": machine,
            "load_average_at_end": machine::load_average(),
            "runner_peak_bytes": self.runner_peak_bytes,
            "proof": proof,
            "summaries": self.summaries.iter().map(Summary::json).collect::<Vec<_>>(),
            "turns": self.measured.turns.iter().map(Turn::json).collect::<Vec<_>>(),
        })
    }

    /// The plot: a panel for each dimension that was swept; of nothing that was, by rounds.
    pub fn svg(&self) -> String {
        let swept = self.swept();
        let panels = match swept.is_empty() {
            true => vec![self.by_rounds()],
            false => swept.iter().map(|(dimension, values)| self.by(*dimension, values, &swept)).collect(),
        };
        let About { bench, date, seed, machine, .. } = &self.about;
        let (processor, cores) = (machine["processor"].as_str().unwrap_or("?"), &machine["cores"]);
        let day = date.split('.').next().unwrap_or(date).trim_end_matches('Z').replace('T', " ");
        let first = format!("{day} UTC, seed {seed}, {cores} cores of {processor}");
        svg(&format!("lifeboat bench {bench}"), [&first, "medians; bars go from the smallest to the largest"], &panels)
    }

    pub fn swept(&self) -> Vec<(Dimension, Vec<u64>)> {
        let settings: Vec<Setting> = self.summaries.iter().map(|summary| summary.setting.clone()).collect();
        swept(&settings)
    }

    fn by(&self, dimension: Dimension, values: &[u64], swept: &[(Dimension, Vec<u64>)]) -> Panel {
        let others: Vec<Dimension> =
            swept.iter().map(|(other, _)| *other).filter(|other| *other != dimension).collect();
        let mut lines: Vec<Line> = Vec::new();
        for summary in self.summaries.iter().filter(|summary| self.shown().of(summary).median.is_finite()) {
            let name = self.name(summary, &others);
            let spread = self.shown().of(summary);
            // What does not depend on it is the same everywhere.
            let at = |value: &u64| summary.setting.get(dimension).is_none_or(|own| own == *value);
            let points = values.iter().enumerate().filter(|(_, value)| at(value)).map(|(at, _)| (at, spread));
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.extend(points),
                None => lines.push(Line { name, points: points.collect(), is_floor: summary.task == FLOOR }),
            }
        }
        lines.iter_mut().for_each(|line| line.points.sort_by_key(|(at, _)| *at));
        let (floors, mut lines): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(|line| line.is_floor);
        let left_out = match lines.len().saturating_sub(LINES_MAX) {
            0 => String::new(),
            more => format!(" ({more} more in the JSON)"),
        };
        lines.truncate(LINES_MAX);
        lines.extend(floors);
        Panel {
            title: format!("{} by {}{left_out}", self.shown().title(), dimension.title()),
            x_title: dimension.title().to_owned(),
            y_title: self.shown().title().to_owned(),
            values: values.iter().map(|value| dimension.value(*value)).collect(),
            lines,
        }
    }

    /// What was measured, in words: the task, where there are several, and what is swept of its setting.
    pub fn name(&self, summary: &Summary, swept: &[Dimension]) -> String {
        let is_alone = |other: &Summary| other.task == summary.task || other.task == FLOOR;
        let is_only_task = summary.task != FLOOR && self.summaries.iter().all(is_alone);
        match summary.setting.label(swept) {
            setting if setting.is_empty() => summary.task.clone(),
            setting if is_only_task => setting,
            setting => format!("{}, {setting}", summary.task),
        }
    }

    fn by_rounds(&self) -> Panel {
        let line = |summary: &Summary| {
            let of = |round: usize| {
                let turns = self.measured.turns.iter();
                let own = turns.filter(|turn| turn.task == summary.task && turn.round == round).cloned();
                Summary::all(&own.collect::<Vec<_>>()).first().map(|one| (round, self.shown().of(one)))
            };
            let points = (0..self.about.rounds).filter_map(of).filter(|(_, spread)| spread.median.is_finite());
            Line { name: summary.task.clone(), points: points.collect(), is_floor: summary.task == FLOOR }
        };
        let lines = self.summaries.iter().map(line).filter(|line| !line.points.is_empty());
        Panel {
            title: format!("{} in each round", self.shown().title()),
            x_title: "round".to_owned(),
            y_title: self.shown().title().to_owned(),
            values: (1..=self.about.rounds).map(|round| round.to_string()).collect(),
            lines: lines.collect(),
        }
    }

    fn shown(&self) -> Shown {
        self.about.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Run;
    use crate::process::Cost;

    fn report(settings: &[Setting]) -> Report {
        let run = |wall_seconds: f64| Run {
            cost: Cost { wall_seconds, user_seconds: 1.0, ..Cost::default() },
            logical_bytes: Some(1_000_000),
            ..Run::default()
        };
        let mut turns: Vec<Turn> = Vec::new();
        for round in 0..2 {
            turns.extend(settings.iter().map(|setting| Turn::of("restore", (setting, round), vec![run(2.0)])));
            let floor = Setting::of([(Dimension::Sites, 4)]);
            turns.push(Turn::of(FLOOR, (&floor, round), vec![run(1.0)]));
        }
        let about = About {
            bench: "restore",
            shown: Shown::MegabytesPerSecond,
            command: vec!["lifeboat".into()],
            version: "0".into(),
            date: "today".into(),
            seed: 1,
            rounds: 2,
            shape: Value::Null,
            repository: "file:///x".into(),
            machine: Value::Null,
            proof: "compared",
        };
        Report::new(about, Measured { turns, fleets: Vec::new() })
    }

    #[test]
    fn each_swept_dimension_has_a_panel_and_the_floor_is_in_each() {
        let setting = |workers, delay| {
            Setting::of([(Dimension::Sites, 4), (Dimension::Workers, workers), (Dimension::Delay, delay)])
        };
        let report = report(&[setting(1, 0), setting(2, 0), setting(1, 20_000), setting(2, 20_000)]);
        let swept = report.swept();
        let panels: Vec<Panel> =
            swept.iter().map(|(dimension, values)| report.by(*dimension, values, &swept)).collect();
        let names = |panel: &Panel| panel.lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&panels[0]), ["0 ms away", "20 ms away", FLOOR]);
        assert_eq!(panels[1].values, ["0 ms", "20 ms"]);
        for line in panels.iter().flat_map(|panel| &panel.lines) {
            assert_eq!(line.points.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1], "{}", line.name);
        }
    }

    #[test]
    fn without_a_sweep_the_rounds_are_shown() {
        let report = report(&[Setting::of([(Dimension::Sites, 4)])]);
        let panel = report.by_rounds();
        assert_eq!((panel.values.len(), panel.lines.len(), panel.lines[0].points.len()), (2, 2, 2));
        assert!(report.svg().contains("MB/s in each round"));
        let json = report.json();
        assert_eq!((json["turns"].as_array().unwrap().len(), json["summaries"].as_array().unwrap().len()), (4, 2));
        assert_eq!(json["summaries"][0]["megabytes_per_second"]["median"], 0.5);
    }
}
