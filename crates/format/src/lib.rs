//! Bytes in the bucket to values, and back.
//!
//! ```text
//! names      ◀▶ object names                      secret, keys, site_keys   the tree of keys
//! config     ◀▶ lifeboat.json                     key_object                a wrapped key
//! envelope      header | frame* | trailer         writer, opener, compress  frames, sealed and opened in place
//! table, manifest, index, commit, change_log, recovery, audit   what the frames of each kind of object hold (cbor, wire)
//! scan          an object without its keys
//! ```
//!
//! Pure: no I/O, no async, no clock. The same values give the same bytes but for random data keys
//! and nonces. `docs/format.md` describes every byte; golden vectors in `tests/format` pin them.
//!
//! Invariant (no-panic): bytes from outside give a value or an error, never a panic, and never an
//! allocation that they do not pay for.
//! What is not here: stores and requests (`store`), what to write when (`repo`).

mod audit;
mod cbor;
mod change_log;
mod commit;
mod compress;
mod config;
mod crypto;
mod envelope;
mod error;
mod index;
mod key_object;
mod keys;
mod manifest;
pub mod names;
mod opener;
mod recovery;
#[cfg(test)]
#[allow(dead_code)] // shared with tests/format, which uses the rest
#[path = "../../../tests/format/sample.rs"]
mod sample;
mod scan;
mod secret;
mod site_keys;
mod spill;
mod table;
mod wire;
mod writer;

pub use audit::{audit_sites, decode_audit_entry, encode_audit_entry};
pub use change_log::{
    BlockReader, BlockWriter, SEGMENT_LEN_MAX, SealedBlock, SealingBlock, SegmentHead, SegmentName, SegmentTail,
    SegmentWriter, TransactionChanges, decode_epoch, decode_footer, decode_log_commit, decode_long_footer,
    decode_shared, decode_unrouted, encode_epoch, encode_log_commit,
};
pub use commit::{commit_hash, decode_commit, decode_run, encode_commit, encode_run};
pub use compress::{Compressor, Decompressor};
pub use config::RepositoryConfig;
#[doc(hidden)]
pub use crypto::Entropy;
pub use crypto::random;
pub use envelope::{
    Compression, FRAME_HEADER_LEN, FRAME_LEN_MIN, FRAME_RAW_MAX, FrameHeader, FrameKind, HEADER_LEN, ObjectHeader,
    ObjectKind, SealedKey, TRAILER_LEN, Trailer,
};
pub use error::{Error, Result};
pub use index::{IndexRow, IndexSegment};
#[doc(hidden)]
pub use keys::seal_root_with;
pub use keys::{
    CredentialKind, OpenedRoot, RepositoryKeys, RootKeyHeader, SigningKey, open_root, root_key_header, seal_root,
};
pub use manifest::{
    ManifestHead, ManifestPart, ManifestSummary, ManifestWriter, PageRef, decode_manifest_head, decode_page,
};
pub use opener::{ObjectOpener, OpenedFrame};
pub use recovery::{
    decode_recovery_entry, decode_recovery_plan, encode_recovery_entry, encode_recovery_plan, receipt_bytes,
    recovery_plan_hash,
};
pub use scan::{Scan, ScanDamage, ScannedFrame, scan_pack};
pub use secret::{KeyId, SecretKey};
pub use site_keys::SiteKeys;
pub use spill::{SpillItems, SpillRecord, decode_spill_record, encode_spill_item, encode_spill_record};
pub use table::{TableRow, decode_pack_table};
pub use writer::{ObjectWriter, PackRow, Placed};

/// The version of the on-disk format that this code writes and reads: frozen, see `docs/format.md`.
pub const FORMAT_VERSION: u16 = 1;
