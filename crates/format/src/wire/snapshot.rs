//! Snapshots and their parts.

use lifeboat_model::{
    Forgotten, ManifestRef, Mark, PartIdentity, PartProblem, PartRecord, PartStatus, PointState, Position, SnapshotId,
    SnapshotRecord, SourceKind,
};

use super::variant::{Variant, put_variant};
use super::wire_codes;
use crate::cbor::{self, In, Out, Wire, WireResult, wire_lists, wire_map, wire_newtypes};

wire_codes!(Mark, "mark" { 0: Good, 1: Incomplete, 2: Suspect, 3: Undo });
wire_codes!(PointState, "point state" { 0: Written, 1: ReadBack, 2: Proven });
wire_codes!(SourceKind, "source kind" { 0: Files, 1: Sqlite, 2: Postgres });
wire_newtypes!(Position);

wire_map!(SnapshotRecord {
    0: id,
    1: generation,
    2: manifest,
    3: mark,
    4: mark_reason,
    5: state,
    6: cut_from,
    7: cut_till,
    8: parent,
    9: entries,
    10: logical_bytes,
    11: added_bytes,
    12: parts,
    13: restore,
    14: moment,
    15: is_scan,
    16: forgotten,
});
wire_map!(Forgotten { 0: at, 1: till });
wire_map!(ManifestRef { 0: id, 1: len, 2: head_offset, 3: head_len });
wire_map!(PartRecord { 0: source, 1: kind, 2: status, 3: entries, 4: logical_bytes, 5: cut_from, 6: cut_till });
wire_map!(PartIdentity { 0: machine, 1: filesystem, 2: path });
wire_map!(PartProblem { 0: entry, 1: reason });
wire_lists!(SnapshotId, SnapshotRecord, PartRecord, PartProblem);

/// `[0]` complete, `[1]` absent, `[2, problems]` incomplete, `[3, reason]` failed.
impl Wire for PartStatus {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Complete => put_variant(out, 0, &[]),
            Self::Absent => put_variant(out, 1, &[]),
            Self::Incomplete { problems } => put_variant(out, 2, &[problems]),
            Self::Failed { reason } => put_variant(out, 3, &[reason]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let status = match variant.code {
            0 => Self::Complete,
            1 => Self::Absent,
            2 => Self::Incomplete { problems: variant.field(input)? },
            3 => Self::Failed { reason: variant.field(input)? },
            other => return cbor::unknown("part status", other.into()),
        };
        variant.end(input)?;
        Ok(status)
    }
}
