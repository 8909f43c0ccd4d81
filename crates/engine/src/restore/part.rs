//! One part at work: the same steps for files and for databases.

use lifeboat_model::{Check, PartReceipt, RestoreId, SourceKind};
use lifeboat_repo::Wanted;

use super::copy::CopyWork;
use super::database::DatabaseWork;
use super::facts::{Facts, LivePart, PartFacts};
use super::files::FilesWork;
use super::rows::RowsWork;
use super::{RestorePlan, RestoreRequest, Verified};
use crate::{Engine, Error};

/// What a part says when it is open.
pub(crate) struct Opened {
    pub receipt: PartReceipt,
    pub checks: Vec<Check>,
}

/// Where in a part a wanted chunk goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination {
    /// Number of the file in its part; of no meaning for a database.
    pub slot: u64,
    pub offset: u64,
}

pub(super) enum PartWork {
    Files(Box<FilesWork>),
    Database(Box<DatabaseWork>),
    Rows(Box<RowsWork>),
    /// Rows that are written elsewhere.
    Copy(Box<CopyWork>),
}

impl PartWork {
    /// Decides exactly what changes, part by part, comparing content where metadata differs.
    pub(super) fn all(
        engine: &Engine,
        facts: &Facts,
        request: &RestoreRequest,
        restore: RestoreId,
    ) -> Result<Vec<Self>, Error> {
        tokio::task::block_in_place(|| {
            facts.parts.iter().map(|part| Self::new(engine, facts, part, request, restore)).collect()
        })
    }

    fn new(
        engine: &Engine,
        facts: &Facts,
        part: &PartFacts,
        request: &RestoreRequest,
        restore: RestoreId,
    ) -> Result<Self, Error> {
        Ok(match part.kind {
            SourceKind::Files => Self::Files(Box::new(FilesWork::new(engine, facts, part, request, restore)?)),
            SourceKind::Postgres if matches!(part.live, LivePart::Copy { .. }) => {
                Self::Copy(Box::new(CopyWork::new(engine, facts, part, &request.target)?))
            }
            SourceKind::Postgres => {
                let source = engine.fleet.source(&part.source);
                let source = source.ok_or_else(|| Error::Bug("a part without its source".into()))?;
                Self::Rows(Box::new(RowsWork::new(source, facts, part, restore)?))
            }
            SourceKind::Sqlite => Self::Database(Box::new(DatabaseWork::new(facts, part, request, restore)?)),
        })
    }

    /// A killed run of the same restore may have left staging behind. Files go on with theirs.
    pub(super) fn expect_leftovers(&mut self) {
        if let Self::Rows(work) = self {
            work.expect_leftovers();
        }
    }

    /// Makes an empty staging place.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        match self {
            Self::Files(work) => work.begin(),
            Self::Database(work) => work.begin(),
            Self::Rows(work) => work.begin(),
            Self::Copy(work) => work.begin(),
        }
    }

    /// The chunks that must be read, and where each goes.
    pub(super) fn wanted(&self) -> Result<Vec<(Wanted, Destination)>, Error> {
        match self {
            Self::Files(work) => work.wanted(),
            Self::Database(work) => Ok(work.wanted()),
            Self::Rows(work) => Ok(work.wanted()),
            Self::Copy(work) => Ok(work.wanted()),
        }
    }

    /// Writes one verified chunk; from any thread.
    pub(super) fn deliver(&self, destination: Destination, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Files(work) => work.deliver(destination, bytes),
            Self::Database(work) => work.deliver(destination, bytes),
            Self::Rows(work) => work.deliver(destination, bytes),
            Self::Copy(work) => work.deliver(destination, bytes),
        }
    }

    /// The entry a destination belongs to, for messages.
    pub(super) fn entry_of(&self, destination: Destination) -> String {
        match self {
            Self::Files(work) => work.entry_of(destination.slot),
            Self::Database(work) => work.entry_name(),
            Self::Rows(work) => work.entry_of(destination.slot),
            Self::Copy(work) => work.entry_of(destination.slot),
        }
    }

    /// Leaves an entry out, because it is damaged in the repository.
    pub(super) fn leave_out(&mut self, destination: Destination, detail: &str) {
        match self {
            Self::Files(work) => work.leave_out(destination.slot, detail),
            Self::Database(work) => work.leave_out(detail),
            Self::Rows(work) => work.leave_out(detail),
            Self::Copy(work) => work.leave_out(destination.slot, detail),
        }
    }

    pub(super) fn verify(&mut self, read: bool) -> Result<(), Error> {
        match self {
            Self::Files(work) => work.verify(read),
            Self::Database(work) => work.verify(),
            Self::Rows(work) => work.verify(),
            Self::Copy(work) => work.verify(),
        }
    }

    /// That it is not about to do more than the approved plan said.
    pub(super) fn check_limits(&self, approved: &RestorePlan) -> Result<(), Error> {
        match self {
            Self::Rows(work) => work.check_limits(approved),
            _ => Ok(()),
        }
    }

    pub(super) fn add_files(&mut self, _: &Verified) -> Result<(), Error> {
        match self {
            Self::Files(work) => work.add(),
            Self::Database(_) | Self::Rows(_) | Self::Copy(_) => Ok(()),
        }
    }

    /// Keeps other restores of this host from switching the same files.
    pub(super) fn lock_switch(&mut self) -> Result<(), Error> {
        match self {
            Self::Files(work) => work.lock_switch(),
            Self::Database(_) | Self::Rows(_) | Self::Copy(_) => Ok(()), // their stores let one in at a time
        }
    }

    /// Whether the switch begins with writing files.
    pub(super) fn adds_files(&self) -> bool {
        matches!(self, Self::Files(work) if !work.is_idle())
    }

    pub(super) fn has_database(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Rows(_) | Self::Copy(_))
    }

    /// Whether its switch is done wholly or, when it is refused, not at all.
    pub(super) fn is_transactional(&self) -> bool {
        matches!(self, Self::Rows(_) | Self::Copy(_))
    }

    pub(super) fn switch_database(&mut self, _: &Verified) -> Result<(), Error> {
        match self {
            Self::Files(_) => Ok(()),
            Self::Database(work) => work.switch(),
            Self::Rows(work) => work.switch(),
            Self::Copy(work) => work.switch(),
        }
    }

    pub(super) fn remove_extras(&mut self, _: &Verified) -> Result<(), Error> {
        match self {
            Self::Files(work) => work.remove(),
            Self::Database(_) | Self::Rows(_) | Self::Copy(_) => Ok(()),
        }
    }

    /// Proves that what is live is what was wanted, and removes the staging.
    pub(super) fn finish(&mut self) -> Result<Opened, Error> {
        match self {
            Self::Files(work) => work.finish(),
            Self::Database(work) => work.finish(),
            Self::Rows(work) => work.finish(),
            Self::Copy(work) => work.finish(),
        }
    }

    /// Throws the staging away; the live part is as it was.
    pub(super) fn discard(&mut self) {
        let discarded = match self {
            Self::Files(work) => work.discard(),
            Self::Database(work) => work.discard(),
            Self::Rows(work) => work.discard(),
            Self::Copy(work) => work.discard(),
        };
        if let Err(error) = discarded {
            tracing::warn!(%error, "staging was left behind; the next restore of this site removes it");
        }
    }
}
