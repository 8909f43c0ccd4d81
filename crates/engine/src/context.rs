//! What every verb works with: the repository, the fleet, and who watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_model::{ProgressSink, RunNumber, SiteId, SnapshotRecord, SourceName};
use lifeboat_repo::{
    ChangeLog, FetchControl, FetchLimits, FooterMemory, IngestOptions, KnownHead, NoFooterMemory, ReadOnce, Repository,
    Site,
};

use crate::{Error, Fleet, Hooks, Scratch};

/// The verbs' view of everything outside them.
pub struct Engine {
    pub repository: Repository,
    pub fleet: Fleet,
    pub hooks: Hooks,
    pub memory: Arc<dyn HeadMemory>,
    pub progress: Arc<dyn ProgressSink>,
    /// Set by Ctrl-C: stop at the next safe place.
    pub cancel: Arc<AtomicBool>,
    pub fetch: FetchLimits,
    pub ingest: IngestOptions,
    /// What the store was asked so far.
    pub usage: Box<dyn Fn() -> Usage + Send + Sync>,
    /// What this engine and others read of the change logs for the sites that they restore; `None`: it reads alone.
    pub read_once: Option<Arc<ReadOnce>>,
    /// Where drills rebuild sites; `None`: nowhere.
    pub scratch: Option<Arc<Scratch>>,
    /// How a site is treated, by its name.
    pub policy: Box<dyn Fn(&SiteId) -> Policy + Send + Sync>,
}

/// What the store was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub requests: u64,
    pub bytes_read: u64,
}

impl Usage {
    /// What was asked since an earlier look.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
        }
    }
}

/// What the engine needs to know of a site's policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// A snapshot that has lost more than this share of entries or bytes is suspect; `0.3` is 30 %.
    pub shrink_limit: f64,
    /// Where changes are captured: a snapshot that is older is taken anew as their base, though nothing has changed. Some sites
    /// come due after half of it.
    pub base_age_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { shrink_limit: 0.3, base_age_max: Duration::from_secs(7 * 86_400) }
    }
}

/// What this host remembers of the bucket between two commands: a cache, and the witness against
/// a store that loses its newest commits.
pub trait HeadMemory: Send + Sync {
    fn known_head(&self, site: &SiteId) -> Option<KnownHead>;
    /// The sites that it knows points of.
    fn sites(&self) -> Vec<SiteId>;
    fn note_site(&self, site: &Site);
    /// What the sources looked like when `note_fingerprint` was last called for the site.
    fn fingerprint(&self, site: &SiteId) -> Option<Fingerprint>;
    fn note_fingerprint(&self, site: &SiteId, fingerprint: &Fingerprint);
    fn newest_run(&self) -> Option<RunNumber>;
    fn note_run(&self, run: &lifeboat_model::Run);
    /// Where footers of change logs are kept, so that each is read from the store once.
    fn footers(&self) -> Arc<dyn FooterMemory> {
        Arc::new(NoFooterMemory)
    }
}

/// A digest of everything a snapshot's change detection compares: when the sources still have the
/// same one, the snapshot still is the site, and not even its manifest needs to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    pub head: KnownHead,
    pub snapshot: SnapshotRecord,
    pub digest: [u8; 32],
}

/// Remembers nothing: the bucket alone is enough.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMemory;

impl HeadMemory for NoMemory {
    fn known_head(&self, _site: &SiteId) -> Option<KnownHead> {
        None
    }
    fn sites(&self) -> Vec<SiteId> {
        Vec::new()
    }
    fn note_site(&self, _site: &Site) {}
    fn fingerprint(&self, _site: &SiteId) -> Option<Fingerprint> {
        None
    }
    fn note_fingerprint(&self, _site: &SiteId, _fingerprint: &Fingerprint) {}
    fn newest_run(&self) -> Option<RunNumber> {
        None
    }
    fn note_run(&self, _run: &lifeboat_model::Run) {}
}

impl Engine {
    /// How chunks are read, and that Ctrl-C ends it.
    pub(crate) fn fetch_control(&self) -> FetchControl<'_> {
        FetchControl { limits: self.fetch, cancel: &self.cancel }
    }

    pub(crate) fn scratch(&self) -> Result<&Scratch, Error> {
        self.scratch.as_deref().ok_or_else(|| Error::Conflict {
            detail: "a drill cannot be run like a recovery".into(),
            hint: "begin a new one with `lifeboat drill`".into(),
        })
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The change log of a source as it is now; footers that this host knows are not read again, nor what is read for
    /// other sites of the same restore.
    pub async fn change_log(&self, source: &SourceName) -> Result<ChangeLog, Error> {
        let log = ChangeLog::open(&self.repository, source).await?.with_memory(self.memory.footers());
        Ok(log.with_once(self.read_once.clone()))
    }

    /// The site as the bucket has it, or an error that suggests a name.
    pub async fn site(&self, id: &SiteId) -> Result<Site, Error> {
        match self.repository.site(id, self.memory.known_head(id)).await? {
            Some(site) => {
                self.memory.note_site(&site);
                Ok(site)
            }
            None => Err(Error::NoSuchSite {
                site: id.clone(),
                hint: format!(
                    "nothing was ever backed up under this id; `lifeboat sites` lists what was, `lifeboat backup {id}` begins"
                ),
            }),
        }
    }
}
