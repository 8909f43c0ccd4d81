//! What is known of a fleet at one moment: the input of the judgement, gathered without changing anything.

use std::time::Duration;

use lifeboat_model::{SiteId, SourceName, Timestamp};

use crate::SiteSummary;

/// Facts, and how far they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assessed {
    All,
    /// The store did not answer: of sites and sources nothing is known, neither good nor bad.
    HostOnly,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When they were gathered.
    pub at: Timestamp,
    pub assessed: Assessed,
    pub repository: RepositoryFacts,
    pub sources: Vec<SourceFacts>,
    pub sites: Vec<SiteFacts>,
    pub disks: Vec<DiskFacts>,
    pub notifiers: Vec<NotifierHealth>,
    /// Of this host's daemon.
    pub jobs: Vec<JobTrouble>,
}

impl Facts {
    /// What can be known when the store does not answer.
    pub fn without_store(at: Timestamp, failure: Trouble) -> Self {
        Self {
            at,
            assessed: Assessed::HostOnly,
            repository: RepositoryFacts { failure: Some(failure), recovery_key_verified: None },
            sources: Vec::new(),
            sites: Vec::new(),
            disks: Vec::new(),
            notifiers: Vec::new(),
            jobs: Vec::new(),
        }
    }
}

/// Something that does not work, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub reason: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// Why the store does not answer.
    pub failure: Option<Trouble>,
    /// Whether a recovery key was ever read back; `None`: nobody could look.
    pub recovery_key_verified: Option<bool>,
}

/// A source, as it is now.
#[derive(Debug, Clone)]
pub struct SourceFacts {
    pub source: SourceName,
    /// Why it cannot be asked, or why nothing may be published from it.
    pub failure: Option<Trouble>,
    /// Customers of whom nothing is backed up.
    pub left_out: Option<Trouble>,
    /// `None`: it is not captured, and nobody wants it to be.
    pub capture: Option<CaptureFacts>,
    /// `None`: its files are not scanned, and nobody wants them to be.
    pub scan: Option<ScanFacts>,
    /// What the last check of its change log found.
    pub damage: Option<DamageSeen>,
}

/// A captured source.
#[derive(Debug, Clone, Default)]
pub struct CaptureFacts {
    /// When its epoch began; `None`: nothing was captured yet.
    pub begun_at: Option<Timestamp>,
    /// Till then its log is complete.
    pub till: Option<Timestamp>,
    /// `None`: no server keeps a slot for it.
    pub slot: Option<SlotFacts>,
    /// Changes of its epoch whose site nobody could tell; `None`: another host captures.
    pub unrouted: Option<u64>,
    /// Changes that are in no bucket yet: what is known of them, and their bytes.
    pub only_here: Option<(String, u64)>,
    /// Why its server cannot be asked.
    pub unreachable: Option<String>,
    /// What has changed under the capture.
    pub drift: Vec<String>,
}

impl CaptureFacts {
    /// Since when its log has not been complete.
    pub fn complete_till(&self) -> Option<Timestamp> {
        self.till.or(self.begun_at)
    }
}

/// What a server keeps for a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    pub state: SlotState,
    pub kept_bytes: u64,
    pub limit_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotState {
    Well,
    /// Half of what the server keeps at most, or of what may be kept, is used.
    Half,
    /// More is kept than may be.
    Beyond,
    /// It can be followed no further, and why.
    Lost(String),
}

/// A source of files that is scanned between two nights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanFacts {
    /// When the last round began; `None`: never from here.
    pub scanned_at: Option<Timestamp>,
    pub sites: u64,
    pub failed: u64,
    /// One that is later has stopped.
    pub late_after: Duration,
    /// Why nobody can tell.
    pub trouble: Option<String>,
}

/// What the last check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageSeen {
    pub found_at: Timestamp,
    pub findings: u64,
    /// The first of them, in one line.
    pub first: String,
}

/// Whether sources list a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    Yes,
    /// None does; a source could not be asked, or there are no sources on this host.
    Unknown,
    /// None does, and it has no points either.
    No,
    /// None does, and somebody said that this is meant.
    Accepted,
    /// None does.
    Vanished,
}

/// A site.
#[derive(Debug, Clone)]
pub struct SiteFacts {
    pub site: SiteId,
    /// The name of its policy.
    pub policy: String,
    pub rpo: Duration,
    pub rto: Duration,
    pub listed: Listed,
    /// Whether newer points are to be had: somebody lists it, or this host has no sources and believes the others.
    pub is_expected: bool,
    /// `None`: never backed up.
    pub summary: Option<SiteSummary>,
    /// Of one that is new, and was in no run yet: since when it is seen.
    pub new_since: Option<Timestamp>,
    /// When a run found it last as its newest good snapshot has it.
    pub found_good_at: Option<Timestamp>,
    /// The newest moment that all of its parts can be put back to.
    pub restorable_till: Option<Timestamp>,
    /// The source whose part is the oldest there.
    pub oldest: Option<SourceName>,
    /// Captured sources in which it has no base: what is captured of it leads nowhere.
    pub without_base: Vec<SourceName>,
    /// Runs that failed at it one after another until now, the newest first, and what the newest said.
    pub failures: u64,
    pub failure: Option<String>,
    /// When this host last read all of it back and found it whole.
    pub checked_at: Option<Timestamp>,
    /// What the last check found.
    pub damage: Option<DamageSeen>,
    /// What the store has of it cannot be read.
    pub unreadable: Option<Trouble>,
}

impl SiteFacts {
    /// When a point of it was last known to be whole: read back, or rebuilt.
    pub fn verified_at(&self) -> Option<Timestamp> {
        let summary = self.summary.as_ref()?;
        let read_back = summary.standing.as_ref().and_then(|standing| standing.read_back_till);
        self.checked_at.max(summary.proven.map(|proven| proven.at)).max(read_back)
    }

    /// When a drill proved it last, or its first point, where none ever did: what a drill is owed since.
    pub fn unproven_since(&self) -> Option<Timestamp> {
        let summary = self.summary.as_ref()?;
        let proven = summary.proven.map(|proven| proven.at);
        proven.or_else(|| summary.standing.as_ref().and_then(|standing| standing.first_at))
    }

    /// Whether it has a good point that is younger than was promised; whoever is new had nothing to lose before.
    pub fn is_within_rpo(&self, now: Timestamp) -> bool {
        self.restorable_till.or(self.new_since).is_some_and(|till| now.since(till) <= self.rpo)
    }

    /// Whether its last drill was as fast as promised; `None`: no drill ever proved it.
    pub fn is_within_rto(&self) -> Option<bool> {
        let proven = self.summary.as_ref().and_then(|summary| summary.proven)?;
        Some(proven.took <= self.rto)
    }
}

/// Room on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    /// What Lifeboat keeps there: `repository`, `catalog`, `drills`.
    pub place: String,
    pub path: String,
    /// What an ordinary user may still write.
    pub free_bytes: u64,
    pub size_bytes: u64,
}

/// A periodic job that left something undone, which a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTrouble {
    pub job: String,
    /// When it ended so for the first time in a row.
    pub since: Timestamp,
    /// What it left, in its own words, and the way out.
    pub trouble: Trouble,
}

/// How telling somebody goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifierHealth {
    pub name: String,
    pub sent: u64,
    pub failed: u64,
    /// Since when it has failed each time, and why.
    pub failing: Option<(Timestamp, String)>,
}
