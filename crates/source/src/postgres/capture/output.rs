//! What the output plugin `pgoutput` says, version 1 of its protocol, as values.
//!
//! Pure. Bytes from outside give an answer, never a panic: every length is checked against what is
//! there, and nothing is reserved that the message cannot hold.
//!
//! What is not here: what a column is called by the catalogue (`relations`), whose a row is.

use lifeboat_model::{ChangedValue, Lsn, Timestamp};

/// Microseconds from 1970 to 2000, where the server's clock begins.
const EPOCH_2000_MICROS: i64 = 946_684_800_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Begin {
        commit: Lsn,
        committed_at: Timestamp,
        transaction: u32,
    },
    Commit {
        end: Lsn,
    },
    /// The transaction came here from another server.
    Origin,
    Relation(Relation),
    Type {
        oid: u32,
        schema: String,
        name: String,
    },
    Insert {
        relation: u32,
        row: Vec<ChangedValue>,
    },
    Update {
        relation: u32,
        old: Option<OldRow>,
        row: Vec<ChangedValue>,
    },
    Delete {
        relation: u32,
        old: OldRow,
    },
    Truncate {
        relations: Vec<u32>,
        is_cascade: bool,
        restarts_sequences: bool,
    },
    Message {
        is_transactional: bool,
        at: Lsn,
        prefix: String,
        content: Vec<u8>,
    },
}

/// The row before, as much of it as the table's replica identity gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldRow {
    /// The columns of the identity; the others are NULL here, whatever they were.
    Key(Vec<ChangedValue>),
    /// All of it.
    Whole(Vec<ChangedValue>),
}

/// A table as the following changes have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `relreplident`: `d`, `i`, `f`, `n`.
    pub identity: u8,
    pub columns: Vec<RelationColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    pub is_identity: bool,
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOutput {
    #[error("a message of the stream is cut short")]
    Short,
    #[error("a message of the stream is longer than what it says")]
    Long,
    #[error("a message of the stream is of a kind that is not known: kind=`{0:#04x}`")]
    Unknown(u8),
    #[error("a name in the stream is not UTF-8")]
    Name,
}

/// Reads one message.
pub fn decode(bytes: &[u8]) -> Result<Output, BadOutput> {
    let mut input = Input(bytes);
    let output = match input.u8()? {
        b'B' => Output::Begin { commit: input.lsn()?, committed_at: input.time()?, transaction: input.u32()? },
        b'C' => {
            input.take(1 + 8)?; // flags, and where the commit is: the beginning said that
            let end = input.lsn()?;
            input.take(8)?;
            Output::Commit { end }
        }
        b'O' => {
            input.take(8)?;
            input.name()?;
            Output::Origin
        }
        b'R' => Output::Relation(input.relation()?),
        b'Y' => Output::Type { oid: input.u32()?, schema: input.name()?, name: input.name()? },
        b'I' => {
            let relation = input.u32()?;
            input.marked(b'N')?;
            Output::Insert { relation, row: input.row()? }
        }
        b'U' => {
            let relation = input.u32()?;
            let (old, mark) = match input.u8()? {
                mark @ (b'K' | b'O') => (Some(input.old_row(mark)?), input.u8()?),
                mark => (None, mark),
            };
            match mark {
                b'N' => Output::Update { relation, old, row: input.row()? },
                other => return Err(BadOutput::Unknown(other)),
            }
        }
        b'D' => {
            let (relation, mark) = (input.u32()?, input.u8()?);
            Output::Delete { relation, old: input.old_row(mark)? }
        }
        b'T' => input.truncation()?,
        b'M' => {
            let is_transactional = input.u8()? & 1 != 0;
            let (at, prefix, len) = (input.lsn()?, input.name()?, input.len()?);
            Output::Message { is_transactional, at, prefix, content: input.take(len)?.to_vec() }
        }
        other => return Err(BadOutput::Unknown(other)),
    };
    if input.0.is_empty() { Ok(output) } else { Err(BadOutput::Long) }
}

/// What is left of a message.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadOutput> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BadOutput::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], BadOutput> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadOutput::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, BadOutput> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, BadOutput> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadOutput> {
        self.array().map(u32::from_be_bytes)
    }

    /// The protocol's lengths have a sign; one that is used is not a length.
    fn len(&mut self) -> Result<usize, BadOutput> {
        let len = self.array().map(i32::from_be_bytes)?;
        usize::try_from(len).map_err(|_| BadOutput::Short)
    }

    fn lsn(&mut self) -> Result<Lsn, BadOutput> {
        self.array().map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    fn time(&mut self) -> Result<Timestamp, BadOutput> {
        self.array().map(|bytes| Timestamp(i64::from_be_bytes(bytes).saturating_add(EPOCH_2000_MICROS)))
    }

    fn name(&mut self) -> Result<String, BadOutput> {
        let len = self.0.iter().position(|byte| *byte == 0).ok_or(BadOutput::Short)?;
        let name = self.take(len)?;
        self.take(1)?;
        str::from_utf8(name).map(str::to_owned).map_err(|_| BadOutput::Name)
    }

    fn marked(&mut self, want: u8) -> Result<(), BadOutput> {
        match self.u8()? {
            mark if mark == want => Ok(()),
            other => Err(BadOutput::Unknown(other)),
        }
    }

    fn row(&mut self) -> Result<Vec<ChangedValue>, BadOutput> {
        let count = usize::from(self.u16()?);
        let mut row = Vec::with_capacity(count.min(self.0.len())); // a value takes a byte at least
        for _ in 0..count {
            row.push(match self.u8()? {
                b'n' => ChangedValue::Null,
                b'u' => ChangedValue::Unchanged,
                b't' => {
                    let len = self.len()?;
                    ChangedValue::Text(self.take(len)?.to_vec())
                }
                other => return Err(BadOutput::Unknown(other)),
            });
        }
        Ok(row)
    }

    fn old_row(&mut self, mark: u8) -> Result<OldRow, BadOutput> {
        match mark {
            b'K' => self.row().map(OldRow::Key),
            b'O' => self.row().map(OldRow::Whole),
            other => Err(BadOutput::Unknown(other)),
        }
    }

    fn relation(&mut self) -> Result<Relation, BadOutput> {
        let (oid, schema, name, identity) = (self.u32()?, self.name()?, self.name()?, self.u8()?);
        let count = usize::from(self.u16()?);
        let mut columns = Vec::with_capacity(count.min(self.0.len() / 10)); // a column takes ten bytes at least
        for _ in 0..count {
            columns.push(RelationColumn {
                is_identity: self.u8()? & 1 != 0,
                name: self.name()?,
                type_oid: self.u32()?,
                type_modifier: self.array().map(i32::from_be_bytes)?,
            });
        }
        // The server writes system tables as an empty schema.
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(Relation { oid, schema, name, identity, columns })
    }

    fn truncation(&mut self) -> Result<Output, BadOutput> {
        let (count, options) = (self.len()?, self.u8()?);
        let mut relations = Vec::with_capacity(count.min(self.0.len() / 4));
        for _ in 0..count {
            relations.push(self.u32()?);
        }
        Ok(Output::Truncate { relations, is_cascade: options & 1 != 0, restarts_sequences: options & 2 != 0 })
    }
}

#[cfg(test)]
mod tests;
