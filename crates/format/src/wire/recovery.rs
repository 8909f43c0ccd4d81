//! Recoveries of many sites: plans, entries, receipts.

use std::time::Duration;

use lifeboat_model::{
    BystanderLook, BystanderNote, BystanderPart, BystanderProof, Bystanders, CaseAim, CaseFailure, CasePlan, CaseWork,
    Check, HandOver, PartReceipt, PointInTime, Receipt, RecoveryEvent, RecoveryRules, SignedReceipt, SourceMoment,
    Timestamp, Touched,
};

use super::variant::{Put, Variant, put_variant};
use super::wire_codes;
use crate::cbor::{self, In, Out, Wire, WireResult, emit, malformed, wire_array, wire_lists, wire_map};

wire_codes!(HandOver, "hand-over" { 0: Validated, 1: Accepted, 2: Opened });

wire_map!(RecoveryRules { 0: canaries, 1: halt_percent, 2: keeps_later, 3: verifies_read, 4: skips_damaged });
wire_map!(CasePlan { 0: site, 1: priority, 2: deadline, 3: aim, 4: snapshot, 5: at, 6: hash, 7: conflicts, 8: work });
wire_map!(CaseWork { 0: add, 1: replace, 2: remove, 3: write_bytes, 4: read_bytes, 5: read_requests });
wire_map!(CaseFailure { 0: message, 1: hint, 2: exit_code });
wire_map!(SignedReceipt { 0: receipt, 1: signature });
wire_map!(Receipt {
    0: restore,
    1: site,
    2: at,
    3: snapshot,
    4: parts,
    5: bytes_read,
    6: requests,
    7: duration,
    8: checks,
    9: undo,
});
wire_map!(PartReceipt {
    0: source,
    1: entries,
    2: rows,
    3: files,
    4: removed,
    5: kept,
    6: bytes,
    7: digest_ok,
    8: transaction,
});
wire_map!(Check { 0: name, 1: passed, 2: detail });
wire_map!(BystanderLook { 0: looked_at, 1: others, 2: moments, 3: parts });
wire_map!(BystanderProof {
    0: proven_at,
    1: others,
    2: looked,
    3: equal,
    4: own_users,
    5: not_proven,
    6: not_comparable,
    7: transactions,
    8: transactions_logged,
    9: must_be_quiet,
    10: notes,
    11: touched,
});
wire_map!(SourceMoment { 0: source, 1: lsn, 2: sees });
wire_map!(BystanderNote { 0: site, 1: source, 2: detail });
wire_map!(Touched { 0: site, 1: source, 2: table, 3: transaction, 4: by });
// There may be one a part of each site of a fleet.
wire_array!(BystanderPart { site, source, digest });
wire_lists!(CasePlan, RecoveryEvent, PartReceipt, Check, SourceMoment, BystanderPart, BystanderNote, Touched);

/// In whole microseconds.
impl Wire for Duration {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.u64(u64::try_from(self.as_micros()).unwrap_or(u64::MAX)));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Ok(Self::from_micros(input.u64()?))
    }
}

/// As `--at` takes it.
impl Wire for PointInTime {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.str(&self.to_string()));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        // No time is later than this one: what was planned was not in the future then.
        Self::parse(input.str()?, Timestamp(i64::MAX)).or_else(|error| malformed(error.to_string()))
    }
}

/// `[0, point]` a point, `[1, restore]` an undo, `[2, point]` a rehearsal.
impl Wire for CaseAim {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Point(point) => put_variant(out, 0, &[point]),
            Self::Undo(restore) => put_variant(out, 1, &[restore]),
            Self::Rehearsal(point) => put_variant(out, 2, &[point]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let aim = match variant.code {
            0 => Self::Point(variant.field(input)?),
            1 => Self::Undo(variant.field(input)?),
            2 => Self::Rehearsal(variant.field(input)?),
            other => return cbor::unknown("aim of a case", other.into()),
        };
        variant.end(input)?;
        Ok(aim)
    }
}

/// `[0, look]` or `[1, proof]`.
impl Wire for Bystanders {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Looked(look) => put_variant(out, 0, &[look]),
            Self::Proven(proof) => put_variant(out, 1, &[proof]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let told = match variant.code {
            0 => Self::Looked(variant.field(input)?),
            1 => Self::Proven(variant.field(input)?),
            other => return cbor::unknown("word on bystanders", other.into()),
        };
        variant.end(input)?;
        Ok(told)
    }
}

/// An event is `[code, field, field, …]`.
impl Wire for RecoveryEvent {
    fn put(&self, out: &mut Out<'_>) {
        let (code, fields): (u32, &[&dyn Put]) = match self {
            Self::Approved { hash } => (0, &[hash]),
            Self::RunBegan => (1, &[]),
            Self::RunEnded => (2, &[]),
            Self::CaseBegan { site } => (3, &[site]),
            Self::CaseRestored { site, receipt } => (4, &[site, receipt]),
            Self::CaseFailed { site, failure } => (5, &[site, failure]),
            Self::Halted { reason } => (6, &[reason]),
            Self::Paused => (7, &[]),
            Self::Resumed => (8, &[]),
            Self::Skipped { site, reason } => (9, &[site, reason]),
            Self::Retried { site } => (10, &[site]),
            Self::Reprioritised { site, priority } => (11, &[site, priority]),
            Self::HandedOver { site, to, note } => (12, &[site, to, note]),
            Self::Beat => (13, &[]),
            Self::Bystanders(told) => (14, &[told]),
        };
        put_variant(out, code, fields);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let event = match variant.code {
            0 => Self::Approved { hash: variant.field(input)? },
            1 => Self::RunBegan,
            2 => Self::RunEnded,
            3 => Self::CaseBegan { site: variant.field(input)? },
            4 => Self::CaseRestored { site: variant.field(input)?, receipt: variant.field(input)? },
            5 => Self::CaseFailed { site: variant.field(input)?, failure: variant.field(input)? },
            6 => Self::Halted { reason: variant.field(input)? },
            7 => Self::Paused,
            8 => Self::Resumed,
            9 => Self::Skipped { site: variant.field(input)?, reason: variant.field(input)? },
            10 => Self::Retried { site: variant.field(input)? },
            11 => Self::Reprioritised { site: variant.field(input)?, priority: variant.field(input)? },
            12 => {
                Self::HandedOver { site: variant.field(input)?, to: variant.field(input)?, note: variant.field(input)? }
            }
            13 => Self::Beat,
            14 => Self::Bystanders(variant.field(input)?),
            other => return cbor::unknown("event of a recovery", other.into()),
        };
        variant.end(input)?;
        Ok(event)
    }
}
