//! Alarms as data: what is not as promised, whose it is, since when, and what to do first.
//!
//! ```text
//! [`Facts`] ──judge, by [`AlarmLimits`]──▶ [`Alarm`]s, worst first ──▶ `status`
//!                                               ├── [`transitions`]: which of it whom to tell ──▶ [`Message`]
//!                                               └──▶ metrics
//! ```
//!
//! An alarm is the same one as long as its kind and its subject are: [`Alarm::id`] says so, whatever its text says meanwhile.
//! All of it is pure: facts are gathered elsewhere, and nobody is told from here.
//!
//! Invariant (silence-is-an-alarm): a site that sources list is alarmed of unless a point within its RPO is known.
//!
//! What is not here: gathering facts (`lifeboat-cli`), telling people (`notify`), what was told before (`catalog`).

mod facts;
mod limits;
mod message;
mod site;
mod source;
mod transitions;
mod words;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use lifeboat_model::{SiteId, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

pub use facts::{
    Assessed, CaptureFacts, DamageSeen, DiskFacts, Facts, JobTrouble, Listed, NotifierHealth, RepositoryFacts,
    ScanFacts, SiteFacts, SlotFacts, SlotState, SourceFacts, Trouble,
};
pub use limits::{AlarmLimits, DiskFree};
pub use message::{Message, Sender};
pub(crate) use source::of_notifier;
pub use transitions::{Round, RoundRules, Told, transitions};

/// How bad it is, from well to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be done some day; everything is as promised.
    Notice,
    /// A promise is about to be broken, or cannot be relied on.
    Warning,
    /// A promise is broken: what happens now may not come back.
    Critical,
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Notice];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Whether something is not as promised.
    pub fn is_breach(self) -> bool {
        self >= Self::Warning
    }
}

/// Declares the kinds: the word that programs know each by, and what it is in a few words.
macro_rules! kinds {
    ($($kind:ident $word:literal $title:literal,)*) => {
        /// What is wrong. `docs/operations/alarms.md` says of each what to do first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AlarmKind {
            $(#[serde(rename = $word)] $kind,)*
        }

        impl AlarmKind {
            /// In the order in which they are told.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Letters and `_`: a part of the contract with programs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            /// For a person.
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

kinds! {
    StoreUnreachable "store_unreachable" "the store does not answer",
    DamageFound "damage_found" "damage was found",
    SiteVanished "site_vanished" "gone from its sources",
    SourceFailed "source_failed" "a source has failed",
    PointOverdue "point_overdue" "no point within the RPO",
    SiteShrank "site_shrank" "shrank beyond its limit",
    SitesLeftOut "sites_left_out" "customers that are in no snapshot",
    DrillFailed "drill_failed" "could not be rebuilt",
    SlotLost "slot_lost" "changes are not captured: a gap",
    SlotFilling "slot_filling" "a server keeps much log for the capture",
    DiskLow "disk_low" "little room on a disk",
    CaptureBehind "capture_behind" "the change log is behind",
    CaptureDrift "capture_drift" "tables have changed under the capture",
    ChangesOnlyHere "changes_only_here" "changes are on this host only",
    ScansBehind "scans_behind" "files are not scanned",
    NoBase "no_base" "captured, and nothing to put changes on",
    BackupFailing "backup_failing" "backups fail again and again",
    SiteIncomplete "site_incomplete" "the newest night is incomplete",
    PointUnverified "point_unverified" "not verified for too long",
    DrillOverdue "drill_overdue" "not rehearsed for too long",
    RtoBreached "rto_breached" "takes longer than promised to rebuild",
    RestoreOpen "restore_open" "a restore was not finished",
    JobTrouble "job_trouble" "the daemon left something undone",
    NotificationsFailing "notifications_failing" "nobody is told",
    RecoveryKeyUnproven "recovery_key_unproven" "the recovery key was never read back",
}

impl AlarmKind {
    /// How bad it can be.
    pub fn severities(self) -> &'static [Severity] {
        use Severity::{Critical, Notice, Warning};
        match self {
            Self::StoreUnreachable
            | Self::DamageFound
            | Self::SiteVanished
            | Self::SourceFailed
            | Self::PointOverdue
            | Self::SiteShrank
            | Self::SitesLeftOut
            | Self::DrillFailed
            | Self::SlotLost
            | Self::DiskLow => &[Critical],
            Self::SlotFilling => &[Critical, Warning],
            Self::RecoveryKeyUnproven => &[Notice],
            _ => &[Warning],
        }
    }

    /// Whether it can be told without the store.
    pub fn is_of_host(self) -> bool {
        matches!(self, Self::StoreUnreachable | Self::DiskLow | Self::JobTrouble | Self::NotificationsFailing)
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Of whom or what an alarm is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Repository,
    /// A disk, by what Lifeboat keeps on it.
    Disk(String),
    Notifier(String),
    /// A periodic job of the daemon.
    Job(String),
    Source(SourceName),
    Site(SiteId),
    Part(SiteId, SourceName),
}

impl Subject {
    pub fn site(&self) -> Option<&SiteId> {
        match self {
            Self::Site(site) | Self::Part(site, _) => Some(site),
            _ => None,
        }
    }

    pub fn source(&self) -> Option<&SourceName> {
        match self {
            Self::Source(source) | Self::Part(_, source) => Some(source),
            _ => None,
        }
    }

    /// The name of what is neither a site nor a source.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Disk(name) | Self::Notifier(name) | Self::Job(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository => f.write_str("repository"),
            Self::Disk(name) | Self::Notifier(name) | Self::Job(name) => f.write_str(name),
            Self::Source(source) => f.write_str(source.as_str()),
            Self::Site(site) => f.write_str(site.as_str()),
            Self::Part(site, source) => write!(f, "{site}/{source}"),
        }
    }
}

/// One thing that is not as promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub kind: AlarmKind,
    pub severity: Severity,
    pub subject: Subject,
    /// Since when, where the facts say so; else whoever sees it first remembers that.
    pub since: Option<Timestamp>,
    /// What is wrong: lower case, no full stop, in one line.
    pub text: String,
    /// What to do first; names a command where one helps.
    pub hint: String,
}

impl Alarm {
    /// The same for as long as it is the same alarm.
    pub fn id(&self) -> String {
        let subject = match &self.subject {
            Subject::Repository => "repository".to_owned(),
            Subject::Disk(name) => format!("disk:{name}"),
            Subject::Notifier(name) => format!("notify:{name}"),
            Subject::Job(name) => format!("job:{name}"),
            Subject::Source(source) => format!("source:{source}"),
            Subject::Site(site) => format!("site:{site}"),
            // No source's name has a slash, and so only one pair reads like this.
            Subject::Part(site, source) => format!("part:{source}/{site}"),
        };
        format!("{}/{subject}", self.kind)
    }

    /// As programs get it. `since`: when it was seen first.
    pub fn note(&self, since: Timestamp) -> AlarmNote {
        AlarmNote {
            id: self.id(),
            kind: self.kind,
            severity: self.severity,
            site: self.subject.site().map(ToString::to_string),
            source: self.subject.source().map(ToString::to_string),
            name: self.subject.name().map(str::to_owned),
            since: self.since.unwrap_or(since).to_string(),
            text: self.text.clone(),
            hint: self.hint.clone(),
        }
    }
}

/// An alarm as it is told: the object of `status --json`, of every message, and what is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmNote {
    pub id: String,
    pub kind: AlarmKind,
    pub severity: Severity,
    pub site: Option<String>,
    pub source: Option<String>,
    /// Of a disk, a notifier or a job.
    pub name: Option<String>,
    /// RFC 3339.
    pub since: String,
    pub text: String,
    pub hint: String,
}

/// Everything that is not as promised, worst first.
pub fn judge(facts: &Facts, limits: &AlarmLimits) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    source::of_repository(facts, &mut alarms);
    facts.disks.iter().for_each(|disk| source::of_disk(disk, limits, &mut alarms));
    facts.notifiers.iter().for_each(|health| alarms.extend(source::of_notifier(health)));
    alarms.extend(facts.jobs.iter().map(source::of_job));
    facts.sources.iter().for_each(|one| source::of_source(one, (facts.at, limits), &mut alarms));
    facts.sites.iter().for_each(|one| site::of_site(one, (facts.at, limits), &mut alarms));
    sort(&mut alarms);
    alarms
}

/// Worst first, then by kind, so that those of one kind are together.
pub(crate) fn sort(alarms: &mut [Alarm]) {
    alarms.sort_by(|a, b| (b.severity, a.kind, &a.subject).cmp(&(a.severity, b.kind, &b.subject)));
}
