//! The audit log: who did what to which sites, and who looked.
//!
//!   [`AuditRecord`] (what somebody does) ─▶ [`AuditEntry`] (its place in the log: a number, and the hash of the one before)
//!
//! What changes something is written twice: *began* before anything is changed, and a closing entry that names the
//! first one and says how it ended. A *began* that nobody closed is of a process that was killed, or is still at it.
//!
//! An entry holds no value of an argument but what has a type (sites, ids, points, names of sources), and nothing that a
//! tenant stored. What is not here: the bytes (`format`), the chain (`repo`), when it is written (`cli`).

use std::fmt;

use crate::{AuditNumber, HoldId, ObjectId, RecoveryId, RestoreId, SiteId, SnapshotId, SourceName, Timestamp};
use crate::{PointInTime, WriterIdentity};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub number: AuditNumber,
    /// SHA-256 of the object before it; zeros in the first.
    pub previous: [u8; 32],
    pub nonce: ObjectId,
    pub written_at: Timestamp,
    pub writer: WriterIdentity,
    pub record: AuditRecord,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub account: AuditAccount,
    pub action: AuditAction,
    /// The verb, such as `restore` or `recover run`.
    pub command: String,
    /// Names of the options that were given, never their values.
    pub options: Vec<String>,
    /// The entry with the *began* that this one closes.
    pub closes: Option<AuditNumber>,
    pub sites: AuditSites,
    pub targets: Vec<AuditTarget>,
    /// The exit code, of a closing entry.
    pub exit_code: Option<u32>,
    /// Lifeboat's own words: nothing that was typed, and nothing that a tenant stored.
    pub details: String,
}

/// The account that the process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditAccount {
    pub uid: u32,
    /// Its name on that host, where the host told.
    pub user: Option<String>,
    /// Who became that account by sudo: what the environment says, and so no proof.
    pub sudo_user: Option<String>,
}

/// What is done. A closing entry of what ended well may have an action that says what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// A plan was made, and shown.
    Planned,
    /// A plan was approved.
    Approved,
    /// From here on something may change.
    Began,
    Ended,
    /// Something of a site was shown, or copied out of the repository.
    Read,
    HoldPlaced,
    HoldReleased,
    /// A person accepted that something is lost.
    LossAccepted,
    Forgotten,
    Undeleted,
    Condemned,
    Pruned,
    Shredded,
    /// A key was read, and proven.
    KeyUsed,
    KeyAdded,
    KeyRotated,
    /// An action of a later version, by its code.
    Other(u32),
}

impl AuditAction {
    /// For people and for programs.
    pub fn name(self) -> String {
        let name = match self {
            Self::Planned => "planned",
            Self::Approved => "approved",
            Self::Began => "began",
            Self::Ended => "ended",
            Self::Read => "read",
            Self::HoldPlaced => "hold placed",
            Self::HoldReleased => "hold released",
            Self::LossAccepted => "loss accepted",
            Self::Forgotten => "forgotten",
            Self::Undeleted => "undeleted",
            Self::Condemned => "condemned",
            Self::Pruned => "pruned",
            Self::Shredded => "shredded",
            Self::KeyUsed => "key used",
            Self::KeyAdded => "key added",
            Self::KeyRotated => "key rotated",
            Self::Other(code) => return format!("action {code}"),
        };
        name.to_owned()
    }
}

/// The sites that an entry is about: the first ones by name, all of them by number and hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditSites {
    /// In ascending order, [`Self::NAMED_MAX`] at most.
    pub named: Vec<SiteId>,
    pub count: u64,
    /// Over all of them, where not all are named.
    pub hash: Option<[u8; 32]>,
}

impl AuditSites {
    /// So many are named.
    pub const NAMED_MAX: usize = 100;

    pub fn one(site: SiteId) -> Self {
        Self { named: vec![site], count: 1, hash: None }
    }
}

/// What an entry is about beside sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    Recovery(RecoveryId),
    Restore(RestoreId),
    /// A plan, by the hash that is approved.
    Plan(String),
    Snapshot(SnapshotId),
    Hold(HoldId),
    /// A key, by its id.
    Key(String),
    Source(SourceName),
    /// The point that was asked for, as `--at` takes it.
    Point(String),
    /// Of a later version, by its code.
    Other(u32),
}

impl AuditTarget {
    /// The point, but no text that somebody wrote into a change log.
    pub fn point(point: &PointInTime) -> Self {
        match point {
            PointInTime::BeforeNote(_) => Self::Point("before a note".to_owned()),
            other => Self::Point(other.to_string()),
        }
    }

    /// What it is, for people and for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Recovery(_) => "recovery",
            Self::Restore(_) => "restore",
            Self::Plan(_) => "plan",
            Self::Snapshot(_) => "snapshot",
            Self::Hold(_) => "hold",
            Self::Key(_) => "key",
            Self::Source(_) => "source",
            Self::Point(_) => "point",
            Self::Other(_) => "other",
        }
    }

    /// Which one.
    pub fn value(&self) -> String {
        match self {
            Self::Recovery(id) => id.to_string(),
            Self::Restore(id) => id.to_string(),
            Self::Snapshot(id) => id.to_string(),
            Self::Hold(id) => id.to_string(),
            Self::Source(name) => name.to_string(),
            Self::Plan(text) | Self::Key(text) | Self::Point(text) => text.clone(),
            Self::Other(code) => code.to_string(),
        }
    }
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.value())
    }
}

/// Bytes of one text, and items of one list: an entry stays small whatever it is told.
const TEXT_MAX: usize = 256;
const DETAILS_MAX: usize = 1_024;
const ITEMS_MAX: usize = 64;

impl AuditRecord {
    /// The same within the limits, and without characters that move a terminal's cursor.
    pub fn bounded(mut self) -> Self {
        clean(&mut self.command, TEXT_MAX);
        self.options.truncate(ITEMS_MAX);
        self.options.iter_mut().for_each(|option| clean(option, TEXT_MAX));
        self.targets.truncate(ITEMS_MAX);
        for target in &mut self.targets {
            if let AuditTarget::Plan(text) | AuditTarget::Key(text) | AuditTarget::Point(text) = target {
                clean(text, TEXT_MAX);
            }
        }
        self.sites.named.truncate(AuditSites::NAMED_MAX);
        let account = &mut self.account;
        account.user.iter_mut().chain(&mut account.sudo_user).for_each(|name| clean(name, TEXT_MAX));
        clean(&mut self.details, DETAILS_MAX);
        self
    }
}

fn clean(text: &mut String, bytes_max: usize) {
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|one| if one.is_control() { char::REPLACEMENT_CHARACTER } else { one }).collect();
    }
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small_and_prints_on_a_terminal_whatever_it_is_told() {
        let long = "é\u{1b}[2J".repeat(10_000);
        let record = AuditRecord {
            account: AuditAccount { uid: 7, user: Some(long.clone()), sudo_user: Some("root\n".into()) },
            action: AuditAction::Read,
            command: long.clone(),
            options: vec![long.clone(); 1_000],
            closes: None,
            sites: AuditSites { named: vec![SiteId::new("acme").unwrap(); 1_000], count: 1_000, hash: Some([1; 32]) },
            targets: vec![AuditTarget::Plan(long.clone()); 1_000],
            exit_code: None,
            details: long,
        };
        let bounded = record.bounded();
        assert_eq!((bounded.options.len(), bounded.targets.len()), (ITEMS_MAX, ITEMS_MAX));
        assert_eq!((bounded.sites.named.len(), bounded.sites.count), (AuditSites::NAMED_MAX, 1_000));
        assert!(bounded.details.len() <= DETAILS_MAX && !bounded.details.contains('\u{1b}'));
        assert!(bounded.command.starts_with("é\u{fffd}[2J"));
        assert_eq!(bounded.account.sudo_user.as_deref(), Some("root\u{fffd}"));
        assert_eq!(bounded.clone().bounded(), bounded.clone());
        assert!(!bounded.targets[0].to_string().contains('\u{1b}'));
    }
}
