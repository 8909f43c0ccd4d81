//! An SQLite database at work: staged, verified, switched, proven in place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{
    Check, Entry, EntryKind, Extent, Fault, Faulty, Mark, PartReceipt, RestoreId, SiteId, SourceName,
};
use lifeboat_repo::Wanted;
use lifeboat_source::Content;
use lifeboat_source::sqlite::{Expect, How, Live, LiveCheck, SqliteStaging, SqliteTarget, Switched, VerifiedDatabase};

use super::facts::{Facts, LivePart, PartFacts};
use super::part::{Destination, Opened};
use super::plan::{DatabaseStep, database_step};
use super::{RestoreRequest, RestoreTarget};
use crate::Error;

pub(super) struct DatabaseWork {
    site: SiteId,
    source: SourceName,
    target: SqliteTarget,
    live: Live,
    step: DatabaseStep,
    wanted: Option<Entry>,
    expect: Expect,
    remaining: AtomicU64,
    state: State,
    damaged: Option<String>,
    frozen: bool,
}

/// How far the database has come.
enum State {
    Waiting,
    Staging(SqliteStaging),
    Verified(Box<VerifiedDatabase>),
    /// Behind a lock only because an SQLite connection cannot be shared between threads.
    Switched(Mutex<Box<Switched>>),
    Removed,
}

impl DatabaseWork {
    pub(super) fn new(
        facts: &Facts,
        part: &PartFacts,
        request: &RestoreRequest,
        restore: RestoreId,
    ) -> Result<Self, Error> {
        let LivePart::Database { live, stamp } = &part.live else {
            return Err(Error::Bug("a database expected".into()));
        };
        if let RestoreTarget::Export(directory) = &request.target {
            let directory = directory.join(part.source.as_str());
            std::fs::create_dir_all(&directory).map_err(|io| super::request::cannot_make(&directory, io))?;
        }
        let wanted = part.wanted.iter().find(|entry| entry.kind != EntryKind::Absent).cloned();
        let is_undo = facts.record.mark == Mark::Undo;
        let mut step = database_step(part, live, stamp.as_deref());
        if step == DatabaseStep::Stay {
            match super::undo::holds(&facts.site, &facts.manifest, wanted.as_ref(), part) {
                Ok(true) => step = DatabaseStep::Keep,
                // A damaged point is equal to nothing.
                Err(error) if error.fault() != Fault::Damage => return Err(error),
                _ => {}
            }
        }
        let expect = wanted.as_ref().map_or(Expect::RawFile, |entry| Expect::for_entry(&entry.kind, is_undo));
        Ok(Self {
            site: facts.site.id().clone(),
            source: part.source.clone(),
            target: SqliteTarget::open(part.file_place()?, restore)?,
            live: live.clone(),
            step,
            wanted,
            expect,
            remaining: AtomicU64::new(0),
            state: State::Waiting,
            damaged: None,
            frozen: false,
        })
    }

    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    /// What is there, if it is going to be replaced or removed.
    pub(super) fn replaced(&self) -> Option<&Live> {
        self.step.writes().then_some(&self.live)
    }

    pub(super) fn target(&self) -> &SqliteTarget {
        &self.target
    }

    /// The live file as raw bytes, when SQLite cannot read it.
    pub(super) fn raw_live(&self) -> Result<Box<dyn Content>, Error> {
        Ok(self.target.raw_live()?)
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if let (DatabaseStep::Put, Some(entry)) = (self.step, &self.wanted) {
            self.state = State::Staging(self.target.begin()?);
            self.remaining = AtomicU64::new(entry.chunks().count() as u64);
        }
        Ok(())
    }

    pub(super) fn wanted(&self) -> Vec<(Wanted, Destination)> {
        let (DatabaseStep::Put, Some(entry)) = (self.step, &self.wanted) else { return Vec::new() };
        let mut offset = 0;
        let mut wanted = Vec::new();
        for extent in &entry.extents {
            if let Extent::Chunk(chunk) = extent {
                wanted.push((Wanted { chunk: *chunk, tag: 0 }, Destination { slot: 0, offset }));
            }
            offset += extent.len();
        }
        wanted
    }

    pub(super) fn deliver(&self, destination: Destination, bytes: &[u8]) -> Result<(), Error> {
        let State::Staging(staging) = &self.state else { return Err(Error::Bug("nothing is being staged".into())) };
        staging.write_at(destination.offset, bytes)?;
        self.remaining.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn entry_name(&self) -> String {
        format!("{}/{}", self.source, self.wanted.as_ref().map(|entry| entry.path.to_string()).unwrap_or_default())
    }

    /// A database with a hole is no database: the live one stays as it is.
    pub(super) fn leave_out(&mut self, detail: &str) {
        self.damaged = Some(detail.to_owned());
        self.step = DatabaseStep::Keep;
    }

    pub(super) fn verify(&mut self) -> Result<(), Error> {
        let (DatabaseStep::Put, Some(entry)) = (self.step, &self.wanted) else { return Ok(()) };
        if self.remaining.load(Ordering::Acquire) != 0 {
            let detail = format!("the database was not written whole: part=`{}`", self.source);
            return Err(Error::NotVerified { site: self.site.clone(), detail });
        }
        let State::Staging(staging) = std::mem::replace(&mut self.state, State::Waiting) else {
            return Err(Error::Bug("nothing is staged".into()));
        };
        let verified = staging.finish(entry.metadata.size)?.verify(self.expect)?;
        self.state = State::Verified(Box::new(verified));
        Ok(())
    }

    pub(super) fn switch(&mut self) -> Result<(), Error> {
        match (self.step, &self.wanted) {
            (DatabaseStep::Put, Some(entry)) => {
                let State::Verified(verified) = std::mem::replace(&mut self.state, State::Waiting) else {
                    return Err(Error::Bug("a switch without verification".into()));
                };
                let switched = self.target.switch(*verified, &entry.metadata)?;
                self.state = State::Switched(Mutex::new(Box::new(switched)));
            }
            (DatabaseStep::Remove, _) => {
                self.target.remove_live()?;
                self.state = State::Removed;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Opened, Error> {
        let name = |what: &str| format!("{}: {what}", self.source);
        let mut checks = Vec::new();
        let size = self.wanted.as_ref().map_or(0, |entry| entry.metadata.size);
        let mut removed = 0;
        let (files, bytes, mut ok) = match std::mem::replace(&mut self.state, State::Waiting) {
            State::Switched(switched) => {
                let switched = switched.into_inner().unwrap_or_else(PoisonError::into_inner);
                let how = match switched.how() {
                    How::Placed => "renamed into place",
                    How::CopiedInto => "copied into the live file through SQLite",
                    How::Replaced => "replaced an unusable file that nobody had open",
                };
                checks.push(Check {
                    name: name("database structure"),
                    passed: true,
                    detail: format!("checked before the switch; {how}"),
                });
                let warnings = switched.warnings().to_vec();
                let live = switched.verify_live()?;
                let (passed, detail) = match live {
                    LiveCheck::Equal => (true, format!("{size} bytes of pages are those of the snapshot")),
                    LiveCheck::ChangedSince => (
                        !self.frozen,
                        "an application wrote to it after the switch; it was equal to the snapshot when it was switched".to_owned(),
                    ),
                };
                checks.push(Check { name: name("pages in place"), passed, detail });
                checks.extend(warnings.into_iter().map(|detail| Check { name: name("note"), passed: true, detail }));
                (1, size, passed)
            }
            State::Removed => {
                removed = 1;
                checks.push(Check {
                    name: name("removed"),
                    passed: true,
                    detail: "the point has no such database".into(),
                });
                (0, 0, true)
            }
            _ if self.step == DatabaseStep::Stay => {
                let detail = "the live database differs from the point, and stays as it is".to_owned();
                checks.push(Check { name: name("kept"), passed: true, detail });
                (0, 0, true)
            }
            _ => {
                let detail = "nothing was written to it since the snapshot".to_owned();
                checks.push(Check { name: name("unchanged"), passed: self.damaged.is_none(), detail });
                (0, 0, true)
            }
        };
        if let Some(detail) = &self.damaged {
            checks.push(Check { name: name("damaged database left out"), passed: false, detail: detail.clone() });
            ok = false;
        }
        self.target.discard_staging()?;
        let (source, entries) = (self.source.clone(), u64::from(self.wanted.is_some()));
        let kept = u64::from(self.step == DatabaseStep::Stay);
        let receipt =
            PartReceipt { source, entries, rows: 0, files, removed, kept, bytes, digest_ok: ok, transaction: None };
        Ok(Opened { receipt, checks })
    }

    pub(super) fn discard(&mut self) -> Result<(), Error> {
        self.state = State::Waiting;
        Ok(self.target.discard_staging()?)
    }
}
