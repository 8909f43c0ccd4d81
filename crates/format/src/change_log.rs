//! The change log's objects: epochs, segments and log commits.
//!
//! ```text
//! segment   block of acme │ block of beta │ … │ shared block │ unrouted block │ footer │ tail
//!           each a whole sealed object (header, frames, trailer), with offsets of its own
//! tail      offset of the footer 8 · its length 4 · number of blocks 4 · magic 8
//! ```
//!
//! A block is sealed under its site's key, all else under the repository's object key. The footer
//! holds the id, the offset and the length of each, and which segment of which epoch of which source
//! it is itself.
//!
//! Invariant (segment-in-its-place): a footer is accepted only as the segment that its object's name
//! says, and a block only as the one that a footer names.
//! What is not here: which changes belong together, and when a segment is full (`engine`).

mod block;
mod epoch;
mod reader;
mod segment;

pub use block::{BlockWriter, SealedBlock, SealingBlock};
pub use epoch::{decode_epoch, decode_log_commit, encode_epoch, encode_log_commit};
pub use reader::{BlockReader, TransactionChanges};
pub use segment::{
    SEGMENT_LEN_MAX, SegmentHead, SegmentName, SegmentTail, SegmentWriter, decode_footer, decode_long_footer,
    decode_shared, decode_unrouted,
};

pub(crate) use segment::StandsFor;

/// Whether values can be what they should, or why not.
type Checked = std::result::Result<(), String>;

#[cfg(test)]
mod tests;
