//! Which files there are, and which of them were written since they were last read.
//!
//! Invariant (vanished-twice): a file is gone when two looks in a row find none; and when more than a fifth of all
//! files go at once, the source has failed and none of them is recorded as gone.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_model::{ChangedTable, FileState, PartIdentity, SiteId};
use lifeboat_source::Source;
use lifeboat_source::sqlite::SqliteSource;
use lifeboat_source::sqlite::capture::{FileMark, FileStat, Look, look};

use super::PageIndex;
use crate::Error;

/// What costs more than this share of the time is done less often: a list of all files, a comparison of a whole file.
const SHARE_MAX: u32 = 20;
/// Reads that are shorter are no burden.
const CHEAP: Duration = Duration::from_millis(250);
/// A file that does not settle for so long is read although that may leave a trace for a moment.
const SETTLE_MAX: Duration = Duration::from_secs(3);
/// A file that could not be read is tried again after this.
const TROUBLE_WAIT: Duration = Duration::from_secs(5);
/// A file whose writer does not let go of it for so long is in trouble.
const BUSY_MAX: Duration = Duration::from_secs(10);
const BUSY_WAIT: Duration = Duration::from_millis(500);
/// See `fleet`: a source that loses more than a fifth of its sites at once has failed.
const LOSS_SHARE: usize = 5;
const LOSS_MIN: usize = 3;

/// What is known of one file.
pub(super) struct Tracked {
    /// `None`: to be found (again).
    pub path: Option<PathBuf>,
    pub table: Arc<ChangedTable>,
    /// As of the last version; `None`: it was never read.
    pub state: Option<FileState>,
    pub mark: Option<FileMark>,
    stamp: Vec<u8>,
    absent_rounds: u32,
    settling_since: Option<Instant>,
    busy_since: Option<Instant>,
    /// A read without a lock was overtaken by a writer.
    pub was_torn: bool,
    not_before: Option<Instant>,
    pub trouble: Option<String>,
}

/// All files of a source.
pub(super) struct Files {
    pub all: BTreeMap<SiteId, Tracked>,
    root: PartIdentity,
    /// Known to the hashes, and not found yet.
    states: BTreeMap<SiteId, (FileState, Vec<u8>)>,
    next_discovery: Option<Instant>,
}

fn file_named(name: String) -> Arc<ChangedTable> {
    Arc::new(ChangedTable { name, columns: Vec::new(), key: Vec::new() })
}

/// What one look at everything found.
pub(super) struct Round {
    pub due: VecDeque<(SiteId, FileStat)>,
    pub gone: VecDeque<SiteId>,
    /// Files that have to wait for a later round.
    pub postponed: usize,
}

impl Files {
    pub fn load(root: PartIdentity, index: &mut dyn PageIndex) -> Result<Self, Error> {
        let states = index.files()?.into_iter().map(|known| (known.site, (known.state, known.stamp))).collect();
        Ok(Self { all: BTreeMap::new(), root, states, next_discovery: None })
    }

    pub fn round(&mut self, source: &SqliteSource) -> Result<Round, Error> {
        if self.next_discovery.is_none_or(|next| Instant::now() >= next) {
            self.discover(source)?;
        }
        let mut round = Round { due: VecDeque::new(), gone: VecDeque::new(), postponed: 0 };
        let now = Instant::now();
        for (site, file) in &mut self.all {
            if file.not_before.is_some_and(|not_before| now < not_before) {
                round.postponed += usize::from(file.busy_since.is_some() && file.trouble.is_none());
                continue;
            }
            match file.look(source, site) {
                Ok(looked) => file.take(site, looked, &mut round),
                Err(error) => file.set_trouble(site, &error.to_string()),
            }
        }
        self.all.retain(|_, file| file.state.is_some() || file.absent_rounds < 2);
        self.hold_losses(source, &mut round)?;
        Ok(round)
    }

    fn discover(&mut self, source: &SqliteSource) -> Result<(), Error> {
        let began = Instant::now();
        let found = source.discover()?;
        if found.root != self.root {
            return Err(lifeboat_source::Error::SourceFailed {
                source_name: source.name().to_string(),
                detail: format!("its root is another directory than before: path=`{}`", found.root.path),
                hint: "mount what belongs there, then start the capture again".into(),
            }
            .into());
        }
        let known = std::mem::take(&mut self.states);
        let vanished = known.keys().filter(|site| found.sites.binary_search(site).is_err());
        let sites: Vec<SiteId> = found.sites.iter().chain(vanished).cloned().collect();
        for site in sites {
            let (state, stamp) = match known.get(&site) {
                Some((state, stamp)) => (Some(*state), stamp.clone()),
                None if self.all.contains_key(&site) => continue,
                None => (None, Vec::new()),
            };
            self.all.insert(site, Tracked::new(state, stamp));
        }
        self.next_discovery = Some(Instant::now() + began.elapsed() * SHARE_MAX);
        Ok(())
    }

    /// Keeps files that went together: an unmounted disk looks like a fleet without sites.
    fn hold_losses(&mut self, source: &SqliteSource, round: &mut Round) -> Result<(), Error> {
        if round.gone.len() < LOSS_MIN || round.gone.len() * LOSS_SHARE <= self.all.len() {
            return Ok(());
        }
        let lost = round.gone.len();
        for site in round.gone.drain(..) {
            if let Some(file) = self.all.get_mut(&site) {
                let why = format!(
                    "the file vanished together with others, which looks like a failed source: source=`{}`, files=`{lost}`",
                    source.name()
                );
                file.set_trouble(&site, &why);
            }
        }
        Ok(())
    }
}

impl Tracked {
    fn new(state: Option<FileState>, stamp: Vec<u8>) -> Self {
        Self {
            path: None,
            table: file_named(String::new()),
            state,
            mark: None,
            stamp,
            absent_rounds: 0,
            settling_since: None,
            busy_since: None,
            was_torn: false,
            not_before: None,
            trouble: None,
        }
    }

    fn look(&mut self, source: &SqliteSource, site: &SiteId) -> Result<Look, lifeboat_source::Error> {
        if self.path.is_none() {
            self.path = source.database_path(site)?;
            let name = self.path.as_deref().and_then(Path::file_name).unwrap_or_default();
            self.table = file_named(name.to_string_lossy().into_owned());
        }
        match &self.path {
            Some(path) => look(path, self.mark.as_ref(), &self.stamp),
            None => Ok(Look::Absent),
        }
    }

    fn take(&mut self, site: &SiteId, looked: Look, round: &mut Round) {
        if !matches!(looked, Look::Absent) {
            self.absent_rounds = 0;
        }
        match looked {
            Look::Unchanged(mark) => {
                self.mark = mark.or(self.mark.take());
                (self.settling_since, self.trouble) = (None, None);
            }
            Look::Absent => {
                self.absent_rounds += 1;
                self.path = None;
                match self.absent_rounds {
                    1 => round.postponed += 1,
                    _ if self.state.is_some() => round.gone.push_back(site.clone()),
                    _ => {}
                }
            }
            Look::Settling(stat) => {
                let since = *self.settling_since.get_or_insert_with(Instant::now);
                match since.elapsed() < SETTLE_MAX {
                    true => round.postponed += 1,
                    false => round.due.push_back((site.clone(), stat)),
                }
            }
            Look::Changed(stat) => round.due.push_back((site.clone(), stat)),
        }
    }

    /// It was read, from end to end or only what was new, and that took so long.
    pub fn was_read(&mut self, is_full: bool, took: Duration) {
        (self.settling_since, self.busy_since, self.trouble, self.was_torn) = (None, None, None, false);
        self.not_before = (is_full && took > CHEAP).then(|| Instant::now() + took * SHARE_MAX);
    }

    /// It cannot be read; one whose writer is only slow waits for a later round.
    pub fn failed(&mut self, site: &SiteId, error: &lifeboat_source::Error, round: &mut Round) {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        match error {
            lifeboat_source::Error::Busy { .. } if since.elapsed() < BUSY_MAX => {
                self.not_before = Some(Instant::now() + BUSY_WAIT);
                round.postponed += 1;
            }
            _ => self.set_trouble(site, &error.to_string()),
        }
    }

    fn set_trouble(&mut self, site: &SiteId, why: &str) {
        if self.trouble.as_deref() != Some(why) {
            tracing::warn!(%site, why, "a file cannot be captured; the others go on");
        }
        self.trouble = Some(why.to_owned());
        self.not_before = Some(Instant::now() + TROUBLE_WAIT);
    }
}
