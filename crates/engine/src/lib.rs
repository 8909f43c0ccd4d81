//! The verbs: back up, restore, undo, look, check. Plan first, then act.
//!
//! The top function of each verb reads like the runbook it replaces. Plans are plain data and pure
//! to compute; executors make no choices.
//!
//! What is not here: calendars, the catalog's tables, an API over HTTP, how things look on a terminal.

mod backup;
mod bases;
mod capture;
mod capture_pages;
mod check;
mod command;
mod compact;
mod context;
mod damage;
mod error;
mod fleet;
mod hooks;
mod http;
pub mod lifecycle;
mod log_prune;
mod look;
mod moment;
mod parallel;
mod points;
mod process;
mod recovery;
mod restore;
mod scanner;

pub use backup::{BackupReport, BackupRequest, SiteBackup, SiteOutcome, backup, is_loss_accepted, may_be_accepted};
pub use bases::{
    CapturedPart, Certainty, EpochSeen, Window, epochs, has_base, newest_epoch, sites_without_base, windows,
};
pub use capture::{
    CaptureIndex, CaptureNews, CaptureReport, CaptureRequest, IndexPlace, SlotDanger, SlotWatch, SpillEnd, TellNews,
    capture, give_up_slot, look_at_slot, look_for_drift, spill, store_answers,
};
pub use capture_pages::{
    FileUpdate, HASHES_PER_CHUNK, KnownFile, PageIndex, PagesPlace, PagesReport, PagesRequest, capture_pages,
};
pub use check::{CheckRequest, LogCheck, SiteCheck, check, check_logs, set_aside};
pub use command::tell_command;
pub use compact::compact_due;
pub use context::{Engine, Fingerprint, HeadMemory, NoMemory, Policy, Usage};
pub use damage::{
    DamageReport, DamageRequest, Incident, IncidentNote, LastGood, LogLooked, Restorable, RunDamage, RunDamageKind,
    SiteDamage, TableDamage, find_damage,
};
pub use error::Error;
pub use fleet::{AnySource, Fleet, SourceHealth};
pub use hooks::Hooks;
pub use http::{HttpAnswer, HttpRequest};
pub use log_prune::{LogNeeds, NeededBase, prune_log};
pub use look::{DiffLine, EntryLine, Listing, cat, diff, list, nearest};
pub use moment::{FileVersion, LogProof, Moment, Replayed, ReplayedFile, ReplayedPart, prove_log, replay_pages};
pub use points::{Point, choose_point, points};
pub use process::{is_gone, this_process};
pub use recovery::{
    Around, Ask, BystanderRequest, CaseAsked, CaseAttempt, Journal, OwnCheck, ProofRequest, Recoveries, RestoreWrote,
    Scratch, ServerLoad, SigningKey, databases, look_again, look_at_bystanders, note_drill_failed, plan_case,
    prove_bystanders, run_case, server_loads, tells_of_the_site,
};
pub use restore::{
    Approval, Change, Conflict, Only, PartPlan, Planned, RestorePlan, RestorePoint, RestoreRequest, RestoreTarget,
    RowsCounted, RowsLimit, find_undo, plan_restore, restore,
};
pub use scanner::{ScanReport, ScanRequest, Scanner};
