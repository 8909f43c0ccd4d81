//! The audit log: one object an entry, created only if it is absent, each holding the hash of the one before.
//!
//!   LIST newest ─▶ its hash ─▶ create n+1 ─ lost ─▶ LIST newest ─▶ …      of two writers one goes behind the other
//!
//! Whoever appends needs not open what is there: the chain is over the bytes of objects, so that an object which somebody
//! put there stops nobody, and is found when the log is read.
//!
//! Invariant (audit-chain): an entry that was changed, moved or taken away is found by whoever reads the log, but for the
//! newest ones, whose loss is found by whoever remembers that they were there.
//! What is not here: what is written when (`lifeboat-cli`), who remembers (`lifeboat-control`), what is done about a store
//! that has lost entries: nothing is ever written in their place.

mod read;

use bytes::Bytes;
use lifeboat_format::{commit_hash, encode_audit_entry, names};
use lifeboat_model::{AuditEntry, AuditNumber, AuditRecord, ObjectId, Timestamp, WriterIdentity};

use crate::upload::object_name;
use crate::{Error, ReadingBack, Repository, random_id};

pub use read::{AuditFinding, AuditReader, AuditReport, SeenAudit};

/// The newest entry, as somebody has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    pub number: AuditNumber,
    /// SHA-256 of its object.
    pub hash: [u8; 32],
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The entry itself.
    pub head: AuditHead,
    /// The newest that the store had, 0 for none, where that is older than what was known. The entry was written behind
    /// what was known all the same: whoever reads the log finds what is missing.
    pub lost: Option<AuditNumber>,
}

impl AuditHead {
    /// Before any entry.
    const NONE: Self = Self { number: AuditNumber(0), hash: [0; 32] };
}

impl Repository {
    /// Writes one more entry, and reads it back; see [`Self::append_audit_unread`].
    pub async fn append_audit(
        &self,
        writer: &WriterIdentity,
        record: AuditRecord,
        known: Option<AuditHead>,
    ) -> Result<Appended, Error> {
        let (appended, reading) = self.append_audit_unread(writer, record, known).await?;
        reading.done().await?;
        Ok(appended)
    }

    /// Writes one more entry, which the store has accepted by then, and does not wait until it is read back.
    ///
    /// `known` is what was the newest when somebody last looked: it spares a read, and nothing is written in the place of
    /// what a store has lost since.
    pub async fn append_audit_unread(
        &self,
        writer: &WriterIdentity,
        record: AuditRecord,
        known: Option<AuditHead>,
    ) -> Result<(Appended, ReadingBack), Error> {
        let record = record.bounded();
        let newest = self.newest_audit().await?;
        let lost = known.filter(|known| newest < known.number).map(|_| newest);
        let mut before = self.audit_end(newest, known.unwrap_or(AuditHead::NONE)).await?;
        loop {
            let number = AuditNumber(before.number.0.checked_add(1).ok_or_else(|| no_more(before.number))?);
            let entry = AuditEntry {
                number,
                previous: before.hash,
                nonce: ObjectId(random_id()?),
                written_at: Timestamp::now(),
                writer: writer.clone(),
                record: record.clone(),
            };
            let body: Bytes = encode_audit_entry(self.keys().object_keys(), &entry)?.into();
            let head = AuditHead { number, hash: commit_hash(&body) };
            let name = object_name(names::audit_entry(number))?;
            let appended = Appended { head, lost };
            match self.store().create(&name, body.clone()).await {
                Ok(()) => return Ok((appended, ReadingBack::begin(self, name, body))),
                Err(lifeboat_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let there = self.store().get(&name).await?;
            let found = AuditHead { number, hash: commit_hash(&there) };
            // Ours, if the first answer was lost on its way: the nonce makes every object another one.
            if found == head {
                return Ok((appended, ReadingBack::begin(self, name, body)));
            }
            let newest = self.newest_audit().await?;
            before = self.audit_end(newest, found).await?;
        }
    }

    /// The number of the newest entry, 0 before the first: one listing.
    pub async fn newest_audit(&self) -> Result<AuditNumber, Error> {
        let Some(listed) = self.store().list(names::AUDIT_PREFIX, None, 1).await?.into_iter().next() else {
            return Ok(AuditNumber(0));
        };
        names::parse_audit_entry(listed.name.as_str()).ok_or_else(|| Error::Damaged {
            object: listed.name.to_string(),
            detail: "no entry of the audit log has such a name".into(),
        })
    }

    /// The newest entry as it is there, whatever it says; `None` before the first.
    pub async fn audit_head(&self) -> Result<Option<AuditHead>, Error> {
        let head = self.audit_end(self.newest_audit().await?, AuditHead::NONE).await?;
        Ok((head != AuditHead::NONE).then_some(head))
    }

    /// What the next entry goes behind: the newest there, or what is known to have been there.
    async fn audit_end(&self, newest: AuditNumber, known: AuditHead) -> Result<AuditHead, Error> {
        if newest <= known.number {
            return Ok(known);
        }
        let body = self.store().get(&object_name(names::audit_entry(newest))?).await?;
        Ok(AuditHead { number: newest, hash: commit_hash(&body) })
    }
}

/// Of an object that nobody can have written who counts.
fn no_more(number: AuditNumber) -> Error {
    Error::Damaged {
        object: names::audit_entry(number),
        detail: "the audit log cannot have come so far: somebody put the object there".into(),
    }
}

#[cfg(test)]
mod tests;
