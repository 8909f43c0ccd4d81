//! A fleet that can be lost: live, as it was, and in a repository.
//!
//! ```text
//! plain/<site>  as it was made      live/<site>  what is lost and restored      gone/<n>  what was lost
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::fleet::{DATABASE, Data, Shape, make};
use crate::process::to_the_end;
use crate::session::{Aim, Session, source};
use crate::setting::Setting;
use crate::{Error, Run, at, tree};

/// What is backed up.
#[derive(Debug, Clone)]
pub enum Source {
    /// A fleet of this shape, but of as many sites as the setting says.
    Made(Shape),
    /// A fleet that is there; it is only read. The sections `[sources.…]` of its configuration.
    Taken(String),
}

/// One site of a fleet.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub id: String,
    pub bytes: u64,
    /// In the repository.
    pub stored_bytes: u64,
}

/// A fleet with all of its sites in a repository.
#[derive(Debug)]
pub(crate) struct Stock {
    /// Where the fleet is; `None`: it is somebody's own.
    dir: Option<PathBuf>,
    /// What of a site is backed up; `None`: all of it.
    database: Option<&'static str>,
    /// The repository's name.
    pub name: String,
    /// Sections of a configuration.
    pub sources: String,
    pub sites: Vec<Site>,
    lost: AtomicUsize,
}

impl Stock {
    /// Makes the fleet of a setting, where it is made, and a copy of it to compare with.
    pub fn make(session: &Session<'_>, from: &Source, setting: &Setting) -> Result<Self, Error> {
        session.check()?;
        let Source::Made(shape) = from else {
            let Source::Taken(sources) = from else { return Err(Error::Panicked) };
            return Ok(Self::of((None, None), "taken".into(), sources.clone()));
        };
        let shape = Shape { sites: setting.sites(), ..*shape };
        let name = format!("fleet-{}", shape.sites);
        session.tell.doing(&format!("making {} sites", shape.sites));
        let dir = session.work.dir(&name)?;
        make(&dir.join("live"), &shape, session.stop)?;
        let database = (shape.data == Data::Sqlite).then_some(DATABASE);
        let sources = source(&dir.join("live"), database);
        Ok(Self::of((Some(dir), database), name, sources))
    }

    fn of((dir, database): (Option<PathBuf>, Option<&'static str>), name: String, sources: String) -> Self {
        Self { dir, database, name, sources, sites: Vec::new(), lost: AtomicUsize::new(0) }
    }

    /// Keeps a copy, to compare with what is restored.
    pub fn keep_plain(&self, session: &Session<'_>) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return Ok(()) };
        copy(session, &dir.join("live"), &dir.join("plain")).map(|_| ())
    }

    /// Backs all of it up, not measured, and learns of its sites.
    pub fn back_up(&mut self, session: &Session<'_>) -> Result<(), Error> {
        session.tell.doing("backing up");
        let program = session.program(self.aim(), &Setting::default(), 0)?;
        program.run(&["init"])?;
        let answer = program.run(&["backup", "--all"])?;
        let site = |event: &Value| {
            let number = |key: &str| event[key].as_u64();
            let id = event["site"].as_str()?.to_owned();
            Some(Site { id, bytes: number("bytes")?, stored_bytes: number("added_bytes")? })
        };
        self.sites = answer.events("site").filter_map(site).collect();
        match self.sites.is_empty() {
            true => Err(Error::Asked {
                detail: "the configured sources list no site".into(),
                hint: "see `lifeboat sources inspect`".into(),
            }),
            false => Ok(()),
        }
    }

    pub fn aim(&self) -> Aim<'_> {
        Aim { repository: &self.name, sources: &self.sources }
    }

    /// Whether it was made, so that it can be lost and compared.
    pub fn is_made(&self) -> bool {
        self.dir.is_some()
    }

    pub fn live(&self) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join("live"))
    }

    /// So many of its sites, evenly from the first to the last; all where that is fewer.
    pub fn sample(&self, count: Option<usize>) -> Vec<Site> {
        let all = self.sites.len();
        let count = count.unwrap_or(all).clamp(1, all.max(1));
        (0..count).filter_map(|at| self.sites.get(at * all / count).cloned()).collect()
    }

    /// Puts a site out of the way, as a bad script would delete it. It is deleted only when all is
    /// measured: for minutes after, ext4 looks at each inode that was freed before it makes a new file,
    /// and would make every restore pay for those before it.
    pub fn lose(&self, site: &Site) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let gone = dir.join("gone");
        fs::create_dir_all(&gone).map_err(at(&gone))?;
        let live = dir.join("live").join(&site.id);
        fs::rename(&live, gone.join(self.lost.fetch_add(1, Ordering::Relaxed).to_string())).map_err(at(&live))
    }

    /// Fails unless a site is again what it was, byte for byte.
    pub fn prove(&self, site: &Site) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return Ok(()) };
        // The directory around a database is made anew: it is no part of the site.
        let part = |tree: &str| {
            let site = dir.join(tree).join(&site.id);
            self.database.map_or_else(|| site.clone(), |database| site.join(database))
        };
        let (plain, live) = (part("plain"), part("live"));
        match tree::difference(&plain, &live).map_err(at(&live))? {
            Some(path) => Err(Error::Differs { site: site.id.clone(), path }),
            None => Ok(()),
        }
    }

    /// `cp -a` of the plain sites into a new directory, each made durable: the floor of a restore.
    pub fn floor(&self, session: &Session<'_>, (sites, round): (&[Site], usize)) -> Result<Vec<Run>, Error> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let target = dir.join(format!("floor-{round}"));
        fs::create_dir_all(&target).map_err(at(&target))?;
        let one = |site: &Site| {
            rustix::fs::sync();
            let run = copy(session, &dir.join("plain").join(&site.id), &target.join(&site.id))?;
            session.tell.step();
            Ok(Run { site: Some(site.id.clone()), logical_bytes: Some(site.bytes), ..run })
        };
        sites.iter().map(one).collect()
    }

    pub fn json(&self) -> Value {
        let bytes = || self.sites.iter().map(|site| site.bytes);
        json!({
            "sites": self.sites.len(),
            "bytes": bytes().sum::<u64>(),
            "stored_bytes": self.sites.iter().map(|site| site.stored_bytes).sum::<u64>(),
            "largest_site_bytes": bytes().max(),
            "smallest_site_bytes": bytes().min(),
        })
    }
}

/// A fleet for each number of sites that a setting has.
pub(crate) fn of_each_size(
    settings: &[Setting],
    mut make: impl FnMut(&Setting) -> Result<Stock, Error>,
) -> Result<BTreeMap<usize, Stock>, Error> {
    let mut fleets = BTreeMap::new();
    for setting in settings {
        if let Entry::Vacant(free) = fleets.entry(setting.sites()) {
            free.insert(make(setting)?);
        }
    }
    Ok(fleets)
}

/// `cp -a` and `sync -f`.
fn copy(session: &Session<'_>, from: &Path, to: &Path) -> Result<Run, Error> {
    let mut command = Command::new("sh");
    command.args(["-c", r#"cp -a "$1" "$2" && sync -f "$2""#, "copy"]).args([from, to]);
    let (cost, status) = to_the_end(&mut command, session.stop).map_err(at(to))?;
    session.check()?;
    match status.success() {
        true => Ok(Run { cost, ..Run::default() }),
        false => Err(at(to)(std::io::Error::other(format!("cp -a ended with {status}")))),
    }
}
