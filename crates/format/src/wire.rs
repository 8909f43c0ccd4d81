//! The model's types as CBOR: one table a type, in the order of their keys.
//!
//! The keys are the format: they are listed in `docs/format.md`, and a number once given is never
//! given again. The model's own types know nothing of this.

mod audit;
mod change;
mod change_log;
mod entry;
mod lifecycle;
mod recovery;
mod site;
mod snapshot;
mod variant;

use lifeboat_model::{
    AuditNumber, ChunkId, EpochId, Generation, HoldId, KeyNumber, LogCommitNumber, Lsn, ObjectId, RecoveryId,
    RestoreId, RowKeyHash, RunNumber, SegmentNumber, SiteHandle, SiteId, SnapshotId, SourceName, Timestamp,
    TransactionId, WriterIdentity,
};

use crate::cbor::{In, Out, Wire, WireResult, emit, malformed, wire_map, wire_newtypes};
use crate::{PackRow, SealedKey};

pub(crate) use change::{check_change, check_table, row_key_bytes};
pub(crate) use entry::{Refs, check_entry, put_entry, take_entry};

wire_newtypes!(
    AuditNumber,
    ChunkId,
    EpochId,
    Generation,
    HoldId,
    KeyNumber,
    LogCommitNumber,
    Lsn,
    ObjectId,
    RecoveryId,
    RestoreId,
    RowKeyHash,
    RunNumber,
    SealedKey,
    SegmentNumber,
    SiteHandle,
    SnapshotId,
    Timestamp,
    TransactionId,
);

impl Wire for SiteId {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.str(self.as_str()));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Self::new(input.str()?).or_else(|error| malformed(error.to_string()))
    }
}

impl Wire for SourceName {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.str(self.as_str()));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Self::new(input.str()?).or_else(|error| malformed(error.to_string()))
    }
}

wire_map!(WriterIdentity { 0: host, 1: machine, 2: boot, 3: pid, 4: started });
wire_map!(PackRow { 0: id, 1: len, 2: key, 3: sealed_key });

/// `impl Wire` for an enum without content, by number.
macro_rules! wire_codes {
    ($type:ident, $name:literal { $($code:literal: $variant:ident),* $(,)? }) => {
        impl $crate::cbor::Wire for $type {
            fn put(&self, out: &mut $crate::cbor::Out<'_>) {
                $crate::cbor::emit(out.u32(match self { $(Self::$variant => $code),* }));
            }

            fn take(input: &mut $crate::cbor::In<'_>) -> $crate::cbor::WireResult<Self> {
                match input.u32()? {
                    $($code => Ok(Self::$variant),)*
                    other => $crate::cbor::unknown($name, other.into()),
                }
            }
        }
    };
}
use wire_codes;

#[cfg(test)]
mod tests;
