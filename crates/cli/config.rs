//! The configuration: `lifeboat.toml`, read once, typed and checked as a whole.
//!
//!   text ──toml──▶ spanned tables (`reader`) ──▶ sections ──▶ [`Config`] ──▶ rules across sections (`overlap`)
//!
//! Every complaint names the key, the line, the form that is expected and the nearest known key,
//! because it is read by somebody tired. Keys that a later version acts on are accepted and noted.
//!
//! What is not here: opening what the configuration names.

mod alarms;
mod capture;
mod daemon;
mod drill;
mod error;
mod hooks;
mod limits;
mod notify;
mod overlap;
mod policy;
mod postgres;
mod prune;
mod reader;
mod recovery;
mod repository;
mod sources;
mod values;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use lifeboat_model::{SiteId, SourceName};

pub use alarms::AlarmsConfig;
pub use capture::CaptureConfig;
pub use daemon::{CheckConfig, DaemonConfig};
pub use drill::DrillConfig;
pub use error::ConfigError;
pub use hooks::HooksConfig;
pub use limits::LimitsConfig;
pub use notify::{MetricsConfig, NotifyConfig, NotifyWay, PingConfig, UrlRef};
pub use policy::{NamedPolicy, Policy};
pub use postgres::PostgresSettings;
pub use prune::PruneConfig;
pub use recovery::RecoveryConfig;
pub(crate) use repository::directory_of;
pub(crate) use repository::parse_key;
pub use repository::{KeyRef, RepositoryConfig};
pub use sources::{FilesConfig, InnerDatabase, SourceConfig, SourceSettings, SqliteConfig};

use reader::Document;

/// The file's name when nobody says otherwise.
pub const DEFAULT_FILE: &str = "lifeboat.toml";

/// Everything `lifeboat.toml` says, with defaults filled in and paths made absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    pub repository: RepositoryConfig,
    /// In the order of the file.
    pub sources: Vec<SourceConfig>,
    pub hooks: Option<HooksConfig>,
    pub capture: CaptureConfig,
    pub limits: LimitsConfig,
    pub recovery: RecoveryConfig,
    pub drill: DrillConfig,
    pub prune: PruneConfig,
    pub daemon: DaemonConfig,
    pub check: CheckConfig,
    pub alarms: AlarmsConfig,
    /// In the order of the file.
    pub notify: Vec<NotifyConfig>,
    pub ping: Option<PingConfig>,
    pub metrics: MetricsConfig,
    /// What holds for a site that no named policy matches.
    pub policy: Policy,
    /// In the order of the file; the first that matches a site is the site's policy.
    pub policies: Vec<NamedPolicy>,
    /// Keys that were accepted and are not acted on in this version, each with a reason.
    pub notes: Vec<String>,
}

impl Config {
    /// Reads and checks the file; relative paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|io| ConfigError::unreadable(path, &io))?;
        let path = std::path::absolute(path).map_err(|io| ConfigError::unreadable(path, &io))?;
        Self::parse(&path, &text)
    }

    /// Checks `text` as the content of the file at the absolute `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(path, text)?;
        let mut root = document.root()?;
        let mut notes = Vec::new();
        let directory = path.parent().unwrap_or(Path::new("/"));
        let repository = repository::read(&mut root, directory)?;
        let mut sources = sources::read(&mut root, directory)?;
        for source in sources.iter().filter(|source| source.was.is_some()) {
            let name = &source.name;
            notes.push(format!("a source's former name is not followed in this version: key=`sources.{name}.was`"));
        }
        let hooks = hooks::read(&mut root)?;
        let capture = capture::read(&mut root)?;
        let limits = limits::read(&mut root)?;
        let recovery = recovery::read(&mut root, &sources)?;
        let drill = drill::read(&mut root, &sources, directory)?;
        let prune = prune::read(&mut root)?;
        let daemon = daemon::read(&mut root)?;
        let check = daemon::read_check(&mut root)?;
        let alarms = alarms::read(&mut root)?;
        let notify = notify::read_all(&mut root, directory)?;
        let ping = notify::read_ping(&mut root, directory)?;
        let metrics = notify::read_metrics(&mut root, directory)?;
        let policy = policy::read_base(&mut root)?;
        let policies = policy::read_named(&mut root, &policy)?;
        root.finish()?;
        overlap::resolve(&document, &repository, &mut sources)?;
        let mut config = Self {
            path: path.to_owned(),
            repository,
            sources,
            hooks,
            capture,
            limits,
            recovery,
            drill,
            prune,
            daemon,
            check,
            alarms,
            notify,
            ping,
            metrics,
            policy,
            policies,
            notes,
        };
        let is_scanned = capture.scan.is_some();
        let can_be_captured = |source: &SourceConfig| {
            source.can_be_captured() || source.has_pages() || (source.has_files() && is_scanned)
        };
        if config.wants_capture() && !config.sources.iter().any(can_be_captured) {
            let note = "no source can be captured, snapshots only: PostgreSQL with tenancy = \"column\" or \"schema\", SQLite and \
                        files are, in this version: key=`policy.capture`";
            config.notes.push(note.into());
        }
        Ok(config)
    }

    /// The policy of one site: the first named one with a pattern that matches, else `[policy]`.
    pub fn policy_of(&self, site: &SiteId) -> &Policy {
        let named = self.policies.iter().find(|named| named.matches(site));
        named.map_or(&self.policy, |named| &named.policy)
    }

    /// Whether any site is backed up by a schedule.
    pub fn has_schedule(&self) -> bool {
        self.policy.schedule.is_some() || self.policies.iter().any(|named| named.policy.schedule.is_some())
    }

    /// The name of a site's policy: its section, or `default` where the base policy holds.
    pub fn policy_name_of(&self, site: &SiteId) -> &str {
        self.policies.iter().find(|named| named.matches(site)).map_or("default", |named| named.name.as_str())
    }

    /// Whether any site's policy asks for its changes.
    pub fn wants_capture(&self) -> bool {
        self.policy.capture || self.policies.iter().any(|named| named.policy.capture)
    }

    /// The sources whose changes are to be followed. A source is followed for all of its sites, or for none.
    pub fn captured(&self) -> impl Iterator<Item = &SourceConfig> {
        let wanted = self.wants_capture();
        self.sources.iter().filter(move |source| wanted && source.can_be_captured())
    }

    /// The same of sources whose sites have a database file each.
    pub fn captured_files(&self) -> impl Iterator<Item = &SourceConfig> {
        let wanted = self.wants_capture();
        self.sources.iter().filter(move |source| wanted && source.has_pages())
    }

    /// The same of sources of files, where they are scanned at all.
    pub fn scanned(&self) -> impl Iterator<Item = &SourceConfig> {
        let wanted = self.wants_capture() && self.capture.scan.is_some();
        self.sources.iter().filter(move |source| wanted && source.has_files())
    }

    /// What a path belongs to, when it lies where a source, the repository or the catalog is.
    pub fn taken_by(&self, path: &Path) -> Option<String> {
        overlap::taken_by(self, path)
    }

    pub fn source(&self, name: &SourceName) -> Option<&SourceConfig> {
        self.sources.iter().find(|source| source.name == *name)
    }
}
