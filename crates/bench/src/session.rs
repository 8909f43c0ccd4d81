//! What every bench of the verb needs: where it works, what it runs, whom it tells, how often.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::program::{Config, Program};
use crate::setting::{Dimension, Setting};
use crate::{Error, Place, Turn, Work};

/// Hears how far a bench is.
pub trait Tell: Sync {
    /// So many steps are ahead.
    fn begin(&self, steps: u64);
    /// What is under way.
    fn doing(&self, what: &str);
    /// One step is done.
    fn step(&self);
    /// A task with one setting is measured once.
    fn turn(&self, turn: &Turn);
}

/// By which address each setting reaches the repositories.
#[derive(Debug, Clone)]
pub struct Places {
    pub near: Place,
    /// By delay and rate.
    pub far: BTreeMap<(Option<u64>, Option<u64>), Place>,
}

impl Places {
    /// What of a setting is the way to the store.
    pub fn way(setting: &Setting) -> (Option<u64>, Option<u64>) {
        (setting.get(Dimension::Delay), setting.get(Dimension::Rate))
    }

    pub(crate) fn of(&self, setting: &Setting) -> &Place {
        self.far.get(&Self::way(setting)).unwrap_or(&self.near)
    }
}

/// A bench under way.
pub struct Session<'a> {
    /// The program that is measured.
    pub program: &'a Path,
    pub work: &'a Work,
    pub places: &'a Places,
    pub rounds: usize,
    pub stop: &'a AtomicBool,
    pub tell: &'a dyn Tell,
}

/// What a bench comes to.
#[derive(Debug, Default)]
pub struct Measured {
    pub turns: Vec<Turn>,
    /// What each fleet was, as JSON has it.
    pub fleets: Vec<Value>,
}

impl Measured {
    pub(crate) fn add(&mut self, turn: Turn, tell: &dyn Tell) {
        tell.turn(&turn);
        self.turns.push(turn);
    }
}

/// A repository of a bench, and what is backed up into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    pub repository: &'a str,
    /// Sections of a configuration.
    pub sources: &'a str,
}

impl Session<'_> {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The program as it is set for an aim: each setting has a directory of its own, all have one key, and all of a
    /// repository share what is known of it on the host.
    pub(crate) fn program(&self, aim: Aim<'_>, setting: &Setting, number: usize) -> Result<Program<'_>, Error> {
        let dir = self.work.path(&format!("config-{}-{number}", aim.repository));
        let config = Config {
            url: &self.places.of(setting).repository(aim.repository),
            key: &self.work.path("lifeboat.key"),
            catalog: &self.work.path(&format!("catalog-{}", aim.repository)),
            sources: aim.sources,
            setting,
        };
        let config = config.write(&dir)?;
        Ok(Program { file: self.program, config, scratch: dir.join("said"), stop: self.stop })
    }

    /// The settings in the order of one round: each round begins with another, so that none is always the first.
    pub(crate) fn in_turn<'s>(
        &self,
        round: usize,
        settings: &'s [Setting],
    ) -> impl Iterator<Item = (usize, &'s Setting)> {
        (0..settings.len()).map(move |at| (at + round) % settings.len()).map(|at| (at, &settings[at]))
    }
}

/// The section of one source below a directory with a directory for each site.
pub(crate) fn source(sites: &Path, database: Option<&str>) -> String {
    let path = |name: Option<&str>| -> PathBuf {
        let site = sites.join("{site}");
        name.map_or_else(|| site.clone(), |name| site.join(name))
    };
    let kind = if database.is_some() { "sqlite" } else { "files" };
    let path = crate::quoted(&path(database).display().to_string());
    format!("[sources.data]\nkind = \"{kind}\"\npath = {path}\n")
}
