//! Following one database's changes by logical decoding, for the change log.
//!
//! ```text
//! set up   coverage ─▶ publications ─▶ event triggers, where allowed ─▶ slot + exported snapshot
//! follow   slot_state: may it go on? ─▶ CaptureStream::begin ─▶ next, next, … ─▶ confirm what is durable
//! both     `PostgresSource::prepare`, `follow_on`
//! watch    tables that are new, publications that somebody changed, a slot that keeps too much
//! inside   startup ─▶ wire ─▶ pump (a thread: answers the server) ─▶ raw ─▶ output ─▶ relations ─▶ Captured
//! later    raw ─▶ SpillStream: kept as it comes ─▶ Spilled: read before what the server says since
//! ```
//!
//! The output plugin is the server's own `pgoutput`, in version 1 of its protocol: whole transactions, in
//! the order of their commits.
//!
//! What is not here: whose a row is, segments, epochs: those are the change log's.

mod drift;
mod follow;
mod output;
mod partitions;
mod publication;
mod pump;
mod raw;
mod relations;
mod session;
mod sites;
mod slot;
mod startup;
mod stream;
mod structure;
mod wire;

pub use drift::{Drift, Joined};
pub use follow::{Following, Prepared, ServerClock, ServerTime};
pub use partitions::{Partitions, Shape};
pub use publication::{
    Coverage, Difference, JOINED, SnapshotsOnly, WITH_ROWS, coverage, differences, publication_names, set_up, take_down,
};
pub use raw::{Said, SpillStream};
pub use session::{ReplicationSession, ServerIdentity};
pub(super) use slot::CAPTURE_PREFIX;
pub use slot::{Followed, NewSlot, SlotFacts, SlotSeen, SlotState, capture_name, drop_slot, slot_facts, slot_state};
pub use stream::{CaptureStream, Captured, NextSpilled, Spilled};
pub use structure::{
    Leaf, OtherChange, OtherObject, StructureChange, StructureColumn, StructureKind, StructureNotes, TableColumns,
    forget_structure, note_structure,
};
