//! All sites, as the configured sources list them now.
//!
//! Invariant (emptiness-is-an-alarm): a source whose root is missing, lies on another mount, or has
//! lost more than a fifth of its sites at once has failed, and nothing is published from it.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{Faulty, PartIdentity, RunSource, SiteId, SourceKind, SourceName};
use lifeboat_source::files::FilesSource;
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::sqlite::SqliteSource;
use lifeboat_source::{Discovery, MissedSite, Source};

/// A configured source, of one kind or another.
pub enum AnySource {
    Files(FilesSource),
    Sqlite(SqliteSource),
    Postgres(Box<PostgresSource>),
}

impl AnySource {
    pub fn as_source(&self) -> &dyn Source {
        match self {
            AnySource::Files(source) => source,
            AnySource::Sqlite(source) => source,
            AnySource::Postgres(source) => source.as_ref(),
        }
    }

    pub fn name(&self) -> &SourceName {
        self.as_source().name()
    }
}

/// The configured sources: databases first, because they are cut first.
pub struct Fleet {
    sources: Vec<AnySource>,
}

/// How a source is found before a run.
#[derive(Debug, Clone)]
pub struct SourceHealth {
    pub source: SourceName,
    pub kind: SourceKind,
    pub sites: Vec<SiteId>,
    pub root: Option<PartIdentity>,
    /// Customers of whom nothing is backed up, and why.
    pub missed: Vec<MissedSite>,
    /// Why nothing may be published from it, and what to do.
    pub failure: Option<(String, String)>,
}

impl SourceHealth {
    /// Why this site is missed, if it is.
    pub fn missed_site(&self, site: &SiteId) -> Option<&MissedSite> {
        self.missed.iter().find(|missed| missed.site.as_ref() == Some(site))
    }
}

/// A source that loses more than this share of its sites at once has failed.
const LOSS_LIMIT: f64 = 0.2;

impl Fleet {
    pub fn new(mut sources: Vec<AnySource>) -> Self {
        sources.sort_by_key(|source| match source {
            AnySource::Postgres(_) => 0,
            AnySource::Sqlite(_) => 1,
            AnySource::Files(_) => 2,
        });
        Self { sources }
    }

    pub fn sources(&self) -> &[AnySource] {
        &self.sources
    }

    pub fn source(&self, name: &SourceName) -> Option<&AnySource> {
        self.sources.iter().find(|source| source.name() == name)
    }

    /// Tells every source which sites a run is about to read, in this order.
    pub(crate) fn expect(&self, sites: &[SiteId]) {
        self.sources.iter().for_each(|source| source.as_source().expect(sites));
    }

    /// Ends the moments that databases were being read at: what is read from now on is read anew.
    pub fn end_cuts(&self) {
        for source in &self.sources {
            if let AnySource::Postgres(source) = source {
                source.end_cut();
            }
        }
    }

    /// Asks every source for its sites and compares with how the last run found it.
    ///
    /// `accept_loss`: the operator says that the loss is meant.
    pub fn look(&self, last: &BTreeMap<SourceName, RunSource>, accept_loss: bool) -> Vec<SourceHealth> {
        self.sources.iter().map(|source| look_at(source.as_source(), last, accept_loss)).collect()
    }

    /// Sites that a database still has rows of, but not the one row that makes them a customer.
    ///
    /// # Errors
    /// When a database cannot be asked.
    pub fn orphaned(&self) -> Result<BTreeSet<SiteId>, crate::Error> {
        let mut orphaned = BTreeSet::new();
        for source in &self.sources {
            let AnySource::Postgres(source) = source else { continue };
            let Some(rooted) = source.rooted()? else { continue };
            let rooted: BTreeSet<SiteId> = rooted.into_iter().collect();
            orphaned.extend(source.discover()?.sites.into_iter().filter(|site| !rooted.contains(site)));
        }
        Ok(orphaned)
    }

    /// The same of one source.
    pub(crate) fn look_at(&self, name: &SourceName, last: &BTreeMap<SourceName, RunSource>) -> Option<SourceHealth> {
        self.source(name).map(|source| look_at(source.as_source(), last, false))
    }
}

fn look_at(source: &dyn Source, last: &BTreeMap<SourceName, RunSource>, accept_loss: bool) -> SourceHealth {
    let (name, kind) = (source.name().clone(), source.kind());
    match source.discover() {
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            let failure = Some((error.to_string(), hint));
            SourceHealth { source: name, kind, sites: Vec::new(), root: None, missed: Vec::new(), failure }
        }
        Ok(found) => {
            let failure = last.get(&name).filter(|_| !accept_loss).and_then(|last| judge(last, &found));
            let (sites, missed, root) = (found.sites, found.missed, Some(found.root));
            SourceHealth { source: name, kind, sites, root, missed, failure }
        }
    }
}

/// Every site that a healthy source lists.
pub(crate) fn all_sites(health: &[SourceHealth]) -> BTreeSet<SiteId> {
    let healthy = health.iter().filter(|source| source.failure.is_none());
    healthy.flat_map(|source| source.sites.iter().cloned()).collect()
}

/// Whether a source has failed compared with the last run: a pure decision.
fn judge(last: &RunSource, found: &Discovery) -> Option<(String, String)> {
    let hint = "if it is meant as it is: `lifeboat backup --all --accept-loss`, once".to_owned();
    if let Some(root) = &last.root
        && (root.filesystem != found.root.filesystem && root.machine == found.root.machine)
    {
        let detail = format!(
            "its root lies on another file system than in the last run: path=`{}`, then=`{}`, now=`{}`",
            found.root.path, root.filesystem, found.root.filesystem
        );
        return Some((detail, format!("is a disk not mounted? {hint}")));
    }
    let (before, now) = (last.sites, found.sites.len() as u64);
    let lost = before.saturating_sub(now);
    // Exact for any number below 2^52.
    if lost as f64 > before as f64 * LOSS_LIMIT {
        let detail = format!("it lists {now} sites, the last run found {before}: more than a fifth vanished at once");
        return Some((detail, format!("is a disk not mounted, or a table cut? {hint}")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(filesystem: &str) -> PartIdentity {
        PartIdentity { machine: "m".into(), filesystem: filesystem.into(), path: "/srv".into() }
    }

    // Explains invariant: emptiness-is-an-alarm
    #[test]
    fn a_source_on_another_mount_or_short_of_a_fifth_of_its_sites_has_failed() {
        let check = |before: u64, now: usize, filesystem: &str, want: Option<&str>| {
            let last = RunSource {
                source: SourceName::new("a").unwrap(),
                sites: before,
                root: Some(root("x")),
                failure: None,
            };
            let sites = (0..now).map(|n| SiteId::new(n.to_string()).unwrap()).collect();
            let found = Discovery { sites, left_out: Vec::new(), missed: Vec::new(), root: root(filesystem) };
            let got = judge(&last, &found);
            assert_eq!(got.is_some(), want.is_some(), "{before} {now} {filesystem}: {got:?}");
            assert!(want.is_none_or(|part| got.unwrap().0.contains(part)));
        };
        check(50, 48, "x", None);
        check(50, 40, "x", None);
        check(50, 39, "x", Some("vanished"));
        check(1, 0, "x", Some("vanished"));
        check(0, 0, "x", None);
        check(3, 9, "x", None);
        check(50, 50, "y", Some("another file system"));
    }
}
