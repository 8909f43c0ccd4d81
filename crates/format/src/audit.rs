//! Entries of the audit log, each naming the object before it.
//!
//! Invariant (audit-in-its-place): an entry is accepted only under the number that its name says; a copy under another
//! name is damage.
//! What is not here: whether an entry follows from the one before (`lifeboat-repo`), which [`crate::commit_hash`] tells.

use std::collections::BTreeSet;

use lifeboat_model::{
    AuditAccount, AuditAction, AuditEntry, AuditNumber, AuditRecord, AuditSites, AuditTarget, SiteId, Timestamp,
    WriterIdentity,
};
use sha2::{Digest, Sha256};

use crate::cbor::wire_map;
use crate::commit::{decode_body, encode_body};
use crate::{Error, ObjectKind, Result, SiteKeys};

/// The whole object of an entry, whose id is its nonce; `keys` are the repository's own
/// ([`crate::RepositoryKeys::object_keys`]).
pub fn encode_audit_entry(keys: &SiteKeys, entry: &AuditEntry) -> Result<Vec<u8>> {
    let AuditEntry { number, previous, nonce, written_at, writer, record } = entry.clone();
    let AuditRecord { account, action, command, options, closes, sites, targets, exit_code, details } = record;
    let body = AuditBody {
        number,
        previous,
        written_at,
        writer,
        account,
        action,
        command,
        options,
        closes,
        sites,
        targets,
        exit_code,
        details,
    };
    encode_body(keys, ObjectKind::AuditEntry, nonce, &body)
}

/// Reads the entry that was stored as `number`.
pub fn decode_audit_entry(keys: &SiteKeys, number: AuditNumber, bytes: &[u8]) -> Result<AuditEntry> {
    let (nonce, body): (_, AuditBody) = decode_body(keys, ObjectKind::AuditEntry, bytes)?;
    if body.number != number {
        let detail = format!("it is another entry: found=`{}`, expected=`{number}`", body.number);
        return Err(Error::damaged("audit entry", detail));
    }
    let AuditBody { number, previous, written_at, writer, account, action, command, options, .. } = body;
    let AuditBody { closes, sites, targets, exit_code, details, .. } = body;
    let record = AuditRecord { account, action, command, options, closes, sites, targets, exit_code, details };
    Ok(AuditEntry { number, previous, nonce, written_at, writer, record })
}

/// Sites as an entry names them: the first ones, and of all their number and a hash over their ids, each behind its length.
pub fn audit_sites<'s>(sites: impl IntoIterator<Item = &'s SiteId>) -> AuditSites {
    let all: BTreeSet<&SiteId> = sites.into_iter().collect();
    let count = all.len() as u64;
    let hash = (all.len() > AuditSites::NAMED_MAX).then(|| {
        let mut hash = Sha256::new();
        for site in &all {
            hash.update((site.as_str().len() as u32).to_le_bytes());
            hash.update(site.as_str());
        }
        hash.finalize().into()
    });
    AuditSites { named: all.into_iter().take(AuditSites::NAMED_MAX).cloned().collect(), count, hash }
}

struct AuditBody {
    number: AuditNumber,
    previous: [u8; 32],
    written_at: Timestamp,
    writer: WriterIdentity,
    account: AuditAccount,
    action: AuditAction,
    command: String,
    options: Vec<String>,
    closes: Option<AuditNumber>,
    sites: AuditSites,
    targets: Vec<AuditTarget>,
    exit_code: Option<u32>,
    details: String,
}

wire_map!(AuditBody {
    0: number,
    1: previous,
    2: written_at,
    3: writer,
    4: account,
    5: action,
    6: command,
    7: options,
    8: closes,
    9: sites,
    10: targets,
    11: exit_code,
    12: details,
});

#[cfg(test)]
mod tests;
