//! Recoveries of many sites: a plan, and entries that follow each other.
//!
//! Invariant (entry-in-its-place): an entry is accepted only as the number, of the recovery, that its name says.

use data_encoding::HEXLOWER;
use lifeboat_model::{
    CaseAim, ObjectId, Receipt, RecoveryEntry, RecoveryEvent, RecoveryId, RecoveryPlan, RecoveryRules, SiteId,
    SnapshotId, Timestamp, WriterIdentity,
};
use sha2::{Digest, Sha256};

use crate::cbor::{self, wire_lists, wire_map};
use crate::commit::{decode_body, encode_body};
use crate::{Error, ObjectKind, Result, SiteKeys};

/// Hex digits of a plan's hash.
const HASH_DIGITS: usize = 16;

/// The whole object of a plan; `keys` are the repository's own ([`crate::RepositoryKeys::object_keys`]).
pub fn encode_recovery_plan(keys: &SiteKeys, id: ObjectId, plan: &RecoveryPlan) -> Result<Vec<u8>> {
    let RecoveryPlan { id: recovery, made_at, made_by, asked, undoes, rules, cases } = plan.clone();
    let body = PlanBody { recovery, made_at, made_by, asked, undoes, rules, cases };
    encode_body(keys, ObjectKind::RecoveryPlan, id, &body)
}

/// Reads the plan that was stored for `recovery`.
pub fn decode_recovery_plan(keys: &SiteKeys, recovery: RecoveryId, bytes: &[u8]) -> Result<RecoveryPlan> {
    let (_, body): (_, PlanBody) = decode_body(keys, ObjectKind::RecoveryPlan, bytes)?;
    let PlanBody { recovery: id, made_at, made_by, asked, undoes, rules, cases } = body;
    if id != recovery {
        let detail = format!("it is of another recovery: found=`{id}`, expected=`{recovery}`");
        return Err(Error::damaged("recovery plan", detail));
    }
    Ok(RecoveryPlan { id, made_at, made_by, asked, undoes, rules, cases })
}

/// The whole object of an entry, whose id is its nonce.
pub fn encode_recovery_entry(keys: &SiteKeys, recovery: RecoveryId, entry: &RecoveryEntry) -> Result<Vec<u8>> {
    let RecoveryEntry { number, nonce, written_at, writer, run, events } = entry.clone();
    let body = EntryBody { recovery, number, written_at, writer, run, events };
    encode_body(keys, ObjectKind::RecoveryEntry, nonce, &body)
}

/// Reads the entry that was stored as `number` of `recovery`.
pub fn decode_recovery_entry(
    keys: &SiteKeys,
    recovery: RecoveryId,
    number: u64,
    bytes: &[u8],
) -> Result<RecoveryEntry> {
    let (nonce, body): (_, EntryBody) = decode_body(keys, ObjectKind::RecoveryEntry, bytes)?;
    if (body.recovery, body.number) != (recovery, number) {
        let found = format!("{} of {}", body.number, body.recovery);
        let detail = format!("it is another entry: found=`{found}`, expected=`{number} of {recovery}`");
        return Err(Error::damaged("recovery entry", detail));
    }
    let EntryBody { written_at, writer, run, events, .. } = body;
    Ok(RecoveryEntry { number, nonce, written_at, writer, run, events })
}

/// Sixteen hex digits over everything a person approves of a recovery: which, its rules, and of each case site, order,
/// point, the hash of its own plan, conflicts. Never when it was made, and never how much it is.
pub fn recovery_plan_hash(plan: &RecoveryPlan) -> String {
    let case = |case: &lifeboat_model::CasePlan| ApprovedCase {
        site: case.site.clone(),
        priority: case.priority,
        deadline: case.deadline,
        aim: case.aim.clone(),
        snapshot: case.snapshot,
        at: case.at,
        hash: case.hash.clone(),
        conflicts: case.conflicts.clone(),
    };
    let (recovery, undoes, rules) = (plan.id, plan.undoes, plan.rules);
    let approved = Approved { recovery, undoes, rules, cases: plan.cases.iter().map(case).collect() };
    HEXLOWER.encode(&Sha256::digest(cbor::to_bytes(&approved)))[..HASH_DIGITS].to_owned()
}

/// What the signature of a case's receipt is over.
pub fn receipt_bytes(recovery: RecoveryId, receipt: &Receipt) -> Vec<u8> {
    let mut bytes = b"lifeboat receipt 1\0".to_vec();
    bytes.extend(recovery.0);
    bytes.extend(cbor::to_bytes(receipt));
    bytes
}

struct PlanBody {
    recovery: RecoveryId,
    made_at: Timestamp,
    made_by: WriterIdentity,
    asked: String,
    undoes: Option<RecoveryId>,
    rules: RecoveryRules,
    cases: Vec<lifeboat_model::CasePlan>,
}

struct EntryBody {
    recovery: RecoveryId,
    number: u64,
    written_at: Timestamp,
    writer: WriterIdentity,
    run: Option<u64>,
    events: Vec<RecoveryEvent>,
}

struct Approved {
    recovery: RecoveryId,
    undoes: Option<RecoveryId>,
    rules: RecoveryRules,
    cases: Vec<ApprovedCase>,
}

struct ApprovedCase {
    site: SiteId,
    priority: u32,
    deadline: Option<Timestamp>,
    aim: CaseAim,
    snapshot: SnapshotId,
    at: Timestamp,
    hash: String,
    conflicts: Vec<String>,
}

wire_map!(PlanBody { 0: recovery, 1: made_at, 2: made_by, 3: asked, 4: undoes, 5: rules, 6: cases });
wire_map!(EntryBody { 0: recovery, 1: number, 2: written_at, 3: writer, 4: run, 5: events });
wire_map!(Approved { 0: recovery, 1: undoes, 2: rules, 3: cases });
wire_map!(ApprovedCase { 0: site, 1: priority, 2: deadline, 3: aim, 4: snapshot, 5: at, 6: hash, 7: conflicts });
wire_lists!(ApprovedCase);

#[cfg(test)]
mod tests;
