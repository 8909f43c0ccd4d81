//! The answer to an incident: many sites put back by one approved plan.
//!
//!   sites ─▶ a case each ─▶ [`RecoveryPlan`], approved by its hash ─▶ canary ─▶ all others, side by side ─▶ receipts
//!
//! What happens to it is written down as [`RecoveryEntry`]s, numbered without gaps; [`RecoveryState`] is what they add
//! up to. Whoever holds the bucket and the key can go on from there, on any host.
//!
//! What is not here: how a case is done (`engine`), who does it when (`control`), the bytes (`format`).

use std::fmt;
use std::sync::Arc;

use crate::{ObjectId, PointInTime, Receipt, RecoveryId, RestoreId, SiteId, SnapshotId, Timestamp, WriterIdentity};

mod bystanders;
mod state;

pub use bystanders::{
    BadBystanderChoice, BystanderChoice, BystanderLook, BystanderNote, BystanderPart, BystanderProof, Bystanders,
    SourceMoment, Touched,
};
pub use state::{BadRecovery, CaseStage, CaseState, RecoveryCounts, RecoveryRun, RecoveryState};

/// What a recovery does. Written once, before anything is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPlan {
    pub id: RecoveryId,
    pub made_at: Timestamp,
    pub made_by: WriterIdentity,
    /// What was asked for, as a person wrote it.
    pub asked: String,
    /// The recovery that this one undoes.
    pub undoes: Option<RecoveryId>,
    pub rules: RecoveryRules,
    /// In the order in which they begin; the first [`RecoveryRules::canaries`] are the canary.
    pub cases: Vec<CasePlan>,
}

impl RecoveryPlan {
    /// Whether nothing of it comes back: it is rehearsed.
    pub fn is_drill(&self) -> bool {
        self.cases.iter().any(|case| matches!(case.aim, CaseAim::Rehearsal(_)))
    }
}

/// What holds for every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryRules {
    /// So many cases run first, and nothing else until they have ended.
    pub canaries: u32,
    /// When more of the ended cases have failed, in percent, no other one begins.
    pub halt_percent: u32,
    /// Only what is missing comes back.
    pub keeps_later: bool,
    /// Everything staged is read back before the switch.
    pub verifies_read: bool,
    /// What is damaged in the repository is left out, by name.
    pub skips_damaged: bool,
}

/// One site of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CasePlan {
    pub site: SiteId,
    /// Lower ones begin first.
    pub priority: u32,
    /// Of equal priority the nearest deadline begins first.
    pub deadline: Option<Timestamp>,
    pub aim: CaseAim,
    pub snapshot: SnapshotId,
    /// The moment the site comes back to.
    pub at: Timestamp,
    /// The hash of the site's own restore plan: what the case must still be when it begins.
    pub hash: String,
    /// What a person has to know and to approve.
    pub conflicts: Vec<String>,
    pub work: CaseWork,
}

/// When a case's turn is, smaller ones first: by priority, and of equal priority by the nearest deadline.
pub fn case_turn(priority: u32, deadline: Option<Timestamp>) -> impl Ord {
    (priority, deadline.is_none(), deadline)
}

/// What a case puts back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseAim {
    Point(PointInTime),
    /// What this restore replaced and removed.
    Undo(RestoreId),
    /// The site at this point, rebuilt in a scratch place and taken away again: a drill.
    Rehearsal(PointInTime),
}

impl fmt::Display for CaseAim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(point) => point.fmt(f),
            Self::Undo(restore) => write!(f, "undo:{restore}"),
            Self::Rehearsal(point) => write!(f, "drill:{point}"),
        }
    }
}

/// How much a case is: exact where nothing is live, else upper limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaseWork {
    /// Entries and rows.
    pub add: u64,
    pub replace: u64,
    pub remove: u64,
    /// Bytes of content to be written, and to be read from the repository at most.
    pub write_bytes: u64,
    pub read_bytes: u64,
    pub read_requests: u64,
}

/// One object of a recovery's journal: what happened, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryEntry {
    /// The first is 1, and there are no gaps.
    pub number: u64,
    /// Random: tells our own entry from another's after an unclear failure.
    pub nonce: ObjectId,
    pub written_at: Timestamp,
    pub writer: WriterIdentity,
    /// Of what a runner writes: the entry in which its run began. What a replaced one writes late counts for nothing.
    pub run: Option<u64>,
    pub events: Vec<RecoveryEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryEvent {
    /// A person agreed to the plan of this hash.
    Approved {
        hash: String,
    },
    /// A process does the cases from here on; every earlier one is out.
    RunBegan,
    /// It has nothing left to do, or was asked to stop.
    RunEnded,
    CaseBegan {
        site: SiteId,
    },
    CaseRestored {
        site: SiteId,
        receipt: Arc<SignedReceipt>,
    },
    CaseFailed {
        site: SiteId,
        failure: CaseFailure,
    },
    /// No other case begins until a person says so.
    Halted {
        reason: String,
    },
    Paused,
    Resumed,
    Skipped {
        site: SiteId,
        reason: String,
    },
    /// A failed or skipped case waits again.
    Retried {
        site: SiteId,
    },
    Reprioritised {
        site: SiteId,
        priority: u32,
    },
    HandedOver {
        site: SiteId,
        to: HandOver,
        note: String,
    },
    /// Nobody stopped: the process is at work. Told when nothing else was told for a while.
    Beat,
    /// Sites beside it were looked at, or proven.
    Bystanders(Bystanders),
}

/// Why a case ended without its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFailure {
    pub message: String,
    pub hint: Option<String>,
    /// As the same restore alone would end.
    pub exit_code: u32,
}

/// How far a restored site is given back, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandOver {
    /// Its own checks, and the operator's, passed.
    Validated,
    /// Whoever owns it agrees.
    Accepted,
    /// Its users are back.
    Opened,
}

/// A receipt, signed by the repository's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    pub receipt: Receipt,
    /// Ed25519 over the recovery's id and the receipt, as `lifeboat-format` writes them: 64 bytes.
    pub signature: Vec<u8>,
}
