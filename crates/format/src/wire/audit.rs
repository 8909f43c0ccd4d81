//! Who did what: accounts, actions, sites and what else an entry of the audit log names.
//!
//! A code that is not known is kept as such: an entry of a later version is still in its place in the chain.

use lifeboat_model::{AuditAccount, AuditAction, AuditSites, AuditTarget};

use super::variant::{Put, Variant, put_variant};
use crate::cbor::{In, Out, Wire, WireResult, emit, wire_lists, wire_map};

wire_map!(AuditAccount { 0: uid, 1: user, 2: sudo_user });
wire_map!(AuditSites { 0: named, 1: count, 2: hash });
wire_lists!(AuditTarget);

/// Each action that has a code.
const ACTIONS: [(AuditAction, u32); 16] = [
    (AuditAction::Planned, 0),
    (AuditAction::Approved, 1),
    (AuditAction::Began, 2),
    (AuditAction::Ended, 3),
    (AuditAction::Read, 4),
    (AuditAction::HoldPlaced, 5),
    (AuditAction::HoldReleased, 6),
    (AuditAction::LossAccepted, 7),
    (AuditAction::Forgotten, 8),
    (AuditAction::Undeleted, 9),
    (AuditAction::Condemned, 10),
    (AuditAction::Pruned, 11),
    (AuditAction::Shredded, 12),
    (AuditAction::KeyUsed, 13),
    (AuditAction::KeyAdded, 14),
    (AuditAction::KeyRotated, 15),
];

impl Wire for AuditAction {
    fn put(&self, out: &mut Out<'_>) {
        let known = ACTIONS.iter().find(|(action, _)| action == self);
        emit(out.u32(match self {
            Self::Other(code) => *code,
            _ => known.map_or(u32::MAX, |(_, code)| *code),
        }));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let code = input.u32()?;
        let known = ACTIONS.iter().find(|(_, known)| *known == code);
        Ok(known.map_or(Self::Other(code), |(action, _)| *action))
    }
}

/// `[code, field]`
impl Wire for AuditTarget {
    fn put(&self, out: &mut Out<'_>) {
        let (code, field): (u32, &dyn Put) = match self {
            Self::Recovery(id) => (0, id),
            Self::Restore(id) => (1, id),
            Self::Plan(hash) => (2, hash),
            Self::Snapshot(id) => (3, id),
            Self::Hold(id) => (4, id),
            Self::Key(id) => (5, id),
            Self::Source(name) => (6, name),
            Self::Point(point) => (7, point),
            Self::Other(code) => return put_variant(out, *code, &[]),
        };
        put_variant(out, code, &[field]);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let target = match variant.code {
            0 => Self::Recovery(variant.field(input)?),
            1 => Self::Restore(variant.field(input)?),
            2 => Self::Plan(variant.field(input)?),
            3 => Self::Snapshot(variant.field(input)?),
            4 => Self::Hold(variant.field(input)?),
            5 => Self::Key(variant.field(input)?),
            6 => Self::Source(variant.field(input)?),
            7 => Self::Point(variant.field(input)?),
            other => Self::Other(other),
        };
        variant.end(input)?;
        Ok(target)
    }
}
