//! The catalog as the engine's memory.
//!
//! A catalog that fails is told once and never stops a verb: the bucket has everything. What is lost
//! until it works again is speed, and the notice of a bucket that loses its newest commits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_control::alarms::{JobTrouble, NotifierHealth, Trouble};
use lifeboat_control::{
    AuditMark, Catalog, CheckNote, CheckScope, ChecksSeen, Head, NewestSnapshot, Noted, ReadBack, RunSeen,
    SiteFingerprint, SiteHead, SiteRow, SiteSummary, Standing,
};
use lifeboat_engine::{Fingerprint, HeadMemory};
use lifeboat_model::{Faulty, Mark, PointState, Run, RunNumber, SiteHandle, SiteId, SiteState, Timestamp};
use lifeboat_repo::{AuditHead, FooterMemory, KnownHead, Repository, Site};

use crate::CliError;
use crate::output::Output;

pub struct CatalogMemory {
    catalog: Arc<Mutex<Catalog>>,
    repository: Repository,
    output: Output,
    warned: AtomicBool,
}

/// The catalog as memory of footers. Its failures are silent: the next use of the catalog tells them.
struct CatalogFooters(Arc<Mutex<Catalog>>);

impl FooterMemory for CatalogFooters {
    fn recall(&self, object: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).footer(object).ok().flatten()
    }

    fn remember(&self, object: &str, end: &[u8]) {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner).note_footer(object, end);
        if let Err(error) = noted {
            tracing::debug!(%error, object, "a footer was not remembered");
        }
    }
}

impl CatalogMemory {
    /// Opens the repository's catalog; one that cannot be used is replaced by one in memory.
    pub fn open(directory: &Path, repository: Repository, output: Output) -> Result<Self, CliError> {
        let identity = repository.config().repository.to_string();
        let mut warned = false;
        let catalog = match Catalog::open(directory, &identity) {
            Ok(opened) => {
                if let Some(aside) = opened.set_aside {
                    let message = format!(
                        "the catalog was set aside and begun anew: reason=`{}`, now=`{}`",
                        aside.reason,
                        aside.to.display()
                    );
                    output.warn(&message, Some("nothing is lost; `lifeboat catalog rebuild` fills it at once"));
                }
                opened.catalog
            }
            Err(error @ lifeboat_control::Error::OtherRepository { .. }) => return Err(error.into()),
            Err(error) => {
                warned = true;
                tell(&output, &error);
                Catalog::in_memory(&identity)?
            }
        };
        Ok(Self { catalog: Arc::new(Mutex::new(catalog)), repository, output, warned: AtomicBool::new(warned) })
    }

    pub fn lock(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it knows every site; when it cannot tell, it does not.
    pub fn is_whole(&self) -> bool {
        let is_whole = self.lock().is_whole();
        self.or_warn(is_whole).unwrap_or(false)
    }

    /// The bucket was asked for all of its sites, and each was noted.
    pub fn note_whole(&self) {
        let noted = self.lock().note_whole();
        self.or_warn(noted);
    }

    /// What it knows of every site; nothing when it cannot tell.
    pub fn rows(&self) -> Vec<SiteRow> {
        self.or_warn(self.lock().sites()).unwrap_or_default()
    }

    /// The newest entry of the audit log that was ever seen.
    pub fn audit_head(&self) -> Option<AuditHead> {
        let mark = self.lock().audit_mark();
        self.or_warn(mark).flatten().map(|AuditMark { number, hash }| AuditHead { number, hash })
    }

    pub fn note_audit(&self, head: AuditHead) {
        let noted = self.lock().note_audit(&audit_mark(head));
        self.or_warn(noted);
    }

    /// Since when sites that are new are seen. `all_answer`: who is not among them is new no more.
    pub fn new_sites(&self, sites: &BTreeSet<SiteId>, all_answer: bool) -> BTreeMap<SiteId, Timestamp> {
        let noted = self.lock().new_sites(sites, all_answer, Timestamp::now());
        self.or_warn(noted).unwrap_or_default()
    }

    /// When each job of a daemon ended last.
    pub fn jobs(&self) -> BTreeMap<String, Timestamp> {
        self.or_warn(self.lock().jobs()).unwrap_or_default()
    }

    pub fn note_job(&self, name: &str, ended_at: Timestamp) {
        let noted = self.lock().note_job(name, ended_at);
        self.or_warn(noted);
    }

    /// Jobs of this host's daemon that left something undone when they ended last.
    pub fn job_troubles(&self) -> Vec<JobTrouble> {
        self.or_warn(self.lock().job_troubles()).unwrap_or_default()
    }

    pub fn note_job_trouble(&self, name: &str, at: Timestamp, trouble: Option<&Trouble>) {
        let noted = self.lock().note_job_trouble(name, at, trouble);
        self.or_warn(noted);
    }

    /// When each site was read back from here.
    pub fn read_back(&self) -> BTreeMap<SiteHandle, ReadBack> {
        self.or_warn(self.lock().read_back()).unwrap_or_default()
    }

    pub fn note_read_back(&self, site: &SiteId, read: ReadBack) {
        let noted = self.lock().note_read_back(self.repository.handle_of(site), read);
        self.or_warn(noted);
    }

    /// The catalog itself, for whoever locks it more than once.
    pub fn shared(&self) -> &Mutex<Catalog> {
        &self.catalog
    }

    /// A check came to its end.
    pub fn note_check(&self, scope: CheckScope<'_>, note: &CheckNote) {
        let noted = self.lock().note_check(scope, note);
        self.or_warn(noted);
    }

    /// What earlier checks from here found; nothing when it cannot tell.
    pub fn checks(&self) -> ChecksSeen {
        let checks = self.lock().checks();
        self.or_warn(checks).unwrap_or_default()
    }

    /// How telling people of alarms goes; nothing when it cannot tell.
    pub fn notifiers(&self) -> Vec<NotifierHealth> {
        let notifiers = self.lock().notifiers();
        self.or_warn(notifiers).unwrap_or_default()
    }

    /// The value, or one warning in the life of the process.
    fn or_warn<T>(&self, result: Result<T, lifeboat_control::Error>) -> Option<T> {
        result
            .map_err(|error| {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tell(&self.output, &error);
                }
            })
            .ok()
    }
}

fn tell(output: &Output, error: &lifeboat_control::Error) {
    output.warn(&format!("going on without the catalog: {error}"), error.hint().as_deref());
}

/// A site as the catalog remembers it.
pub fn site_head(site: &Site) -> SiteHead {
    let KnownHead { generation, hash } = site.head();
    SiteHead {
        site: site.id().clone(),
        handle: site.handle(),
        head: Head { generation, hash },
        summary: summary(site.state()),
    }
}

/// A run as the catalog remembers it.
pub fn run_seen(run: &Run, repository: &Repository) -> RunSeen {
    RunSeen {
        number: run.number,
        finished_at: run.finished_at,
        sites: run.sites.iter().map(|site| (repository.handle_of(&site.site), site.clone())).collect(),
    }
}

/// What a listing says of a site.
pub fn summary(state: &SiteState) -> SiteSummary {
    let snapshots = || state.snapshots.iter().filter(|record| !record.is_scan);
    let count = |mark: Mark| snapshots().filter(|record| record.mark == mark).count() as u64;
    let latest = state.latest();
    SiteSummary {
        latest: latest.map(|record| record.id),
        latest_at: latest.map(|record| record.cut_till),
        logical_bytes: latest.map_or(0, |record| record.logical_bytes),
        entries: latest.map_or(0, |record| record.entries),
        good: count(Mark::Good),
        incomplete: count(Mark::Incomplete),
        suspect: count(Mark::Suspect),
        undo: count(Mark::Undo),
        holds: state.holds.len() as u64,
        has_intent: state.intent.is_some(),
        proven: state.proven,
        drill_failed: state.drill_failed,
        standing: Some(standing(state)),
    }
}

/// Ages and marks of a site's points; what was kept by a restore, and scans, are none of its own.
fn standing(state: &SiteState) -> Standing {
    let whole = || state.snapshots.iter().filter(|record| !record.is_scan && record.mark != Mark::Undo);
    let good = || whole().filter(|record| record.mark == Mark::Good);
    Standing {
        first_at: good().map(|record| record.cut_till).min(),
        newest: whole().rfind(|record| !record.is_birth()).map(|record| NewestSnapshot {
            at: record.cut_till,
            mark: record.mark,
            reason: record.mark_reason.clone(),
        }),
        read_back_till: good().filter(|record| record.state > PointState::Written).map(|record| record.cut_till).max(),
        intent_opened_at: state.intent.as_ref().map(|intent| intent.opened_at),
    }
}

/// An entry of the audit log as the catalog remembers it.
pub fn audit_mark(AuditHead { number, hash }: AuditHead) -> AuditMark {
    AuditMark { number, hash }
}

fn known(head: Head) -> KnownHead {
    KnownHead { generation: head.generation, hash: head.hash }
}

impl HeadMemory for CatalogMemory {
    fn known_head(&self, site: &SiteId) -> Option<KnownHead> {
        let head = self.lock().head(self.repository.handle_of(site));
        self.or_warn(head).flatten().map(known)
    }

    fn sites(&self) -> Vec<SiteId> {
        self.rows().into_iter().filter(|row| row.summary.has_points()).map(|row| row.site).collect()
    }

    fn note_site(&self, site: &Site) {
        // A site that was never committed to has no head to remember.
        if site.written_at().is_none() {
            return;
        }
        let noted = self.lock().note_head(&site_head(site));
        if let Some(Noted::Forked { known }) = self.or_warn(noted) {
            let generation = known.generation;
            tracing::warn!(site = %site.id(), %generation, "the bucket has two histories of this site");
        }
    }

    fn fingerprint(&self, site: &SiteId) -> Option<Fingerprint> {
        let found = self.lock().fingerprint(self.repository.handle_of(site));
        let SiteFingerprint { head, digest, snapshot } = self.or_warn(found).flatten()?;
        Some(Fingerprint { head: known(head), snapshot, digest })
    }

    fn note_fingerprint(&self, site: &SiteId, fingerprint: &Fingerprint) {
        let Fingerprint { head, snapshot, digest } = fingerprint;
        let row = SiteFingerprint {
            head: Head { generation: head.generation, hash: head.hash },
            digest: *digest,
            snapshot: snapshot.clone(),
        };
        let noted = self.lock().note_fingerprint(self.repository.handle_of(site), &row);
        self.or_warn(noted);
    }

    fn footers(&self) -> Arc<dyn FooterMemory> {
        Arc::new(CatalogFooters(Arc::clone(&self.catalog)))
    }

    fn newest_run(&self) -> Option<RunNumber> {
        let run = self.lock().last_run();
        self.or_warn(run).flatten()
    }

    fn note_run(&self, run: &Run) {
        let seen = run_seen(run, &self.repository);
        let noted = self.lock().note_run(&seen);
        self.or_warn(noted);
    }
}
