//! What is kept on the host that captures, for as long as the store does not answer: what the source said, as it said it.
//!
//! What is not here: how it is sealed (`lifeboat-format`), and its file (`lifeboat-repo`).

use crate::{EpochId, Lsn, SourceName, Timestamp};

/// What a spill goes on from. One that differs in any of it is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillFacts {
    pub source: SourceName,
    pub epoch: EpochId,
    pub system_identifier: String,
    pub timeline: u32,
    pub slot: String,
    /// Everything that committed from here on is in it.
    pub begins: Lsn,
}

/// One thing that the stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpillItem {
    /// A message of the output plugin, and the position that it was sent with.
    Message { start: Lsn, bytes: Vec<u8> },
    /// Everything that committed before it has been said.
    ServerAt(Lsn),
}

/// Between two transactions: up to where it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpillMark {
    /// Everything that committed before it is in it.
    pub till: Lsn,
    /// When the newest transaction in it committed, by the source's clock, or else when it was written.
    pub at: Timestamp,
}
