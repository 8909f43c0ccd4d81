//! What a bench says while it runs: a bar on a terminal, and a line for each turn.

use lifeboat_bench::setting::{Dimension, swept};
use lifeboat_bench::{Summary, Tell, Turn};

use super::asked::Asked;
use crate::Context;
use crate::output::Output;
use crate::progress::Steps;

pub struct Told {
    output: Output,
    steps: Steps,
    rounds: usize,
    swept: Vec<Dimension>,
}

impl Told {
    pub fn new(asked: &Asked, context: &Context) -> Self {
        let swept = swept(asked.bench.settings()).into_iter().map(|(dimension, _)| dimension).collect();
        let steps = Steps::new(asked.bench.name(), &context.output);
        Self { output: context.output.clone(), steps, rounds: asked.rounds(), swept }
    }
}

impl Tell for Told {
    fn begin(&self, steps: u64) {
        self.steps.begin(steps);
    }

    fn doing(&self, what: &str) {
        self.steps.doing(what);
    }

    fn step(&self) {
        self.steps.step();
    }

    fn turn(&self, turn: &Turn) {
        let setting = turn.setting.label(&self.swept);
        let comma = if setting.is_empty() { "" } else { ", " };
        let rate = match Summary::all(std::slice::from_ref(turn)).first().map(|one| one.megabytes_per_second.median) {
            Some(rate) if rate.is_finite() => format!(", {rate:.0} MB/s"),
            _ => String::new(),
        };
        let (round, rounds, task) = (turn.round + 1, self.rounds, &turn.task);
        self.output.say(format!("round {round} of {rounds}: {task}{comma}{setting}: {:.2} s{rate}", turn.wall_seconds));
    }
}

/// Removing many files takes a while.
pub fn removing(context: &Context) {
    context.output.say("removing what was made");
}
