//! What a contender is, where it works, and what of it is measured.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_bench::Outcome;
use lifeboat_bench::process::Cost;

use crate::data::Site;
use crate::errands::{self, Errand};
use crate::place::Place;

/// One measured process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    pub cost: Cost,
    /// What the store was asked, where the program says so.
    pub requests: Option<u64>,
    pub bytes_read: Option<u64>,
}

/// What a contender's restore does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restores {
    Nothing,
    /// It reads, and writes no tree.
    Bytes,
    Tree,
}

/// A program that takes part, or one of the floors that they stand on.
pub trait Contender {
    fn name(&self) -> &'static str;

    /// Why it takes no part at such a place.
    fn left_out(&self, _place: &Place) -> Option<&'static str> {
        None
    }

    /// Makes an empty repository for a site.
    fn prepare(&self, _at: &At<'_>) -> Outcome<()> {
        Ok(())
    }

    /// What each of its processes takes before it works, which is taken off; with a repository that it makes.
    fn start(&self, _at: &At<'_>) -> Outcome<Option<Cost>> {
        Ok(None)
    }

    /// `None`: it does no such thing.
    fn backup(&self, _at: &At<'_>) -> Outcome<Option<Measured>> {
        Ok(None)
    }

    /// The same when nothing has changed since.
    fn backup_again(&self, at: &At<'_>) -> Outcome<Option<Measured>> {
        self.backup(at)
    }

    fn restores(&self) -> Restores {
        Restores::Tree
    }

    /// Puts the site back to where it was, which is empty, and makes that durable.
    fn restore(&self, at: &At<'_>) -> Outcome<Measured>;
}

/// One round: everything of it is in a directory of its own.
pub struct Round<'a> {
    /// The data: live sites in `srv`, what they must be in `plain`, what was put away in `gone`.
    pub data: &'a Path,
    pub dir: PathBuf,
    pub number: usize,
}

impl Round<'_> {
    /// Makes its empty directory, and puts away that of the round before.
    pub fn begin(&self) -> Outcome<()> {
        if self.dir.exists() {
            self.take_away(&self.dir)?;
        }
        Ok(fs::create_dir_all(&self.dir)?)
    }

    pub fn live(&self, site: Site) -> PathBuf {
        self.data.join("srv").join(site.name())
    }

    pub fn original(&self, site: Site) -> PathBuf {
        self.data.join("plain").join(site.name())
    }

    /// Puts a tree out of the way, as a bad script would delete it. It is deleted only when all is
    /// measured, see [`crate::trees::shed`].
    pub fn take_away(&self, tree: &Path) -> Outcome<()> {
        let gone = self.data.join("gone");
        fs::create_dir_all(&gone)?;
        let gone = gone.join(fs::read_dir(&gone)?.count().to_string());
        fs::rename(tree, &gone)?;
        errands::send(Errand::Shed, &[&gone]).map(|_| ())
    }
}

/// Where one contender works on one site.
pub struct At<'a> {
    pub round: &'a Round<'a>,
    pub site: Site,
    pub place: &'a Place,
}

impl At<'_> {
    pub fn live(&self) -> PathBuf {
        self.round.live(self.site)
    }

    pub fn original(&self) -> PathBuf {
        self.round.original(self.site)
    }

    /// A directory for what a program keeps beside its repository, and for a repository in a directory.
    pub fn dir(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.round.dir.join(format!("{name}-{}", self.site.name()));
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A prefix of its own in the bucket.
    pub fn prefix(&self, name: &str) -> String {
        format!("{name}-{}", self.site.name())
    }
}
