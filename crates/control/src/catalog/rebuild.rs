//! Filling the catalog anew from what the bucket says.

use lifeboat_model::{AuditNumber, RunNumber};
use rusqlite::TransactionBehavior;

use super::audit::write_mark;
use super::rows::{write_head, write_run};
use super::{AuditMark, Catalog, Head, RunSeen, SiteHead, SiteRow};
use crate::Error;

/// Everything that was read from the bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    pub sites: Vec<SiteHead>,
    pub runs: Vec<RunSeen>,
    /// The newest entry of the audit log.
    pub audit: Option<AuditMark>,
}

/// A high-water mark that the bucket no longer reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The bucket has an older head of the site, another one of the same generation, or none.
    Site { row: Box<SiteRow>, found: Option<Head> },
    /// The newest run is gone.
    Run { known: RunNumber, found: Option<RunNumber> },
    /// The newest entries of the audit log are gone.
    Audit { known: AuditNumber, found: Option<AuditNumber> },
}

/// The high-water marks of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    sites: Vec<SiteRow>,
    last_run: Option<RunNumber>,
    audit: Option<AuditMark>,
}

impl Marks {
    /// Which marks `content` does not reach: each is damage of the bucket, to be told and settled
    /// before [`Catalog::replace`] forgets it. `content` must have been read after the marks: another
    /// process may go on meanwhile, and what it notes was never lost.
    pub fn lost(self, content: &Content) -> Vec<Lost> {
        let mut lost = Vec::new();
        for row in self.sites {
            let found = content.sites.iter().find(|site| site.handle == row.handle).map(|site| site.head);
            let reached = found.is_some_and(|found| found.generation > row.head.generation || found == row.head);
            if !reached {
                lost.push(Lost::Site { row: Box::new(row), found });
            }
        }
        if let Some(known) = self.last_run {
            let found = content.runs.iter().map(|run| run.number).max();
            if found.is_none_or(|found| found < known) {
                lost.push(Lost::Run { known, found });
            }
        }
        if let Some(known) = self.audit {
            let reached = content.audit.is_some_and(|found| found.number > known.number || found == known);
            if !reached {
                lost.push(Lost::Audit { known: known.number, found: content.audit.map(|found| found.number) });
            }
        }
        lost
    }
}

impl Catalog {
    /// What the bucket was seen to hold, to be taken before it is read anew.
    pub fn marks(&self) -> Result<Marks, Error> {
        Ok(Marks { sites: self.sites()?, last_run: self.last_run()?, audit: self.audit_mark()? })
    }

    /// Puts `content` in the place of everything that the bucket says, in one transaction. What only this host knows stays:
    /// what checks found, and who was told of which alarm.
    pub fn replace(&mut self, content: &Content) -> Result<(), Error> {
        let file = self.file.clone();
        self.try_replace(content).map_err(|error| Error::of_sqlite(&file, error))
    }

    /// Forgets everything that the bucket says.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.replace(&Content::default())
    }

    fn try_replace(&mut self, content: &Content) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(
            "DELETE FROM site; DELETE FROM run; DELETE FROM site_run; DELETE FROM fingerprint; DELETE FROM whole; \
             DELETE FROM footer; DELETE FROM audit; DELETE FROM standing",
        )?;
        for site in &content.sites {
            write_head(&transaction, site)?;
        }
        for run in &content.runs {
            write_run(&transaction, run)?;
        }
        if let Some(mark) = &content.audit {
            write_mark(&transaction, mark)?;
        }
        transaction.commit()?;
        self.footer_bytes = None;
        Ok(())
    }
}
