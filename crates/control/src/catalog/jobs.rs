//! What a daemon did when: jobs that come again and again, and sites that were read back.
//!
//! Lost with the catalog, jobs are done once more and everything is read back anew: no harm, and no claim that is not
//! so. What a job found is not here but where it is told; of a site that was read back, how much was damaged, and of a job
//! that left something undone, what a person has to look at.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{SiteHandle, SiteId, Timestamp};
use rusqlite::{TransactionBehavior, params};

use super::Catalog;
use crate::Error;
use crate::alarms::{JobTrouble, Trouble};

/// When all stored data of a site was read, and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBack {
    pub read_at: Timestamp,
    /// Damaged things.
    pub findings: u64,
}

impl Catalog {
    /// When each job came to its end last.
    pub fn jobs(&self) -> Result<BTreeMap<String, Timestamp>, Error> {
        let ask = || -> rusqlite::Result<_> {
            let mut statement = self.connection.prepare_cached("SELECT name, ended_at FROM job")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, Timestamp(row.get(1)?))))?;
            rows.collect()
        };
        ask().map_err(|error| self.failed(error))
    }

    pub fn note_job(&self, name: &str, ended_at: Timestamp) -> Result<(), Error> {
        let sql = "INSERT INTO job (name, ended_at) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET ended_at = ?2";
        self.connection.execute(sql, params![name, ended_at.0]).map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Jobs that left something undone when they ended last.
    pub fn job_troubles(&self) -> Result<Vec<JobTrouble>, Error> {
        let ask = || -> rusqlite::Result<_> {
            let sql = "SELECT name, since, reason, hint FROM job_trouble ORDER BY name";
            let mut statement = self.connection.prepare_cached(sql)?;
            let row = |row: &rusqlite::Row<'_>| {
                let trouble = Trouble { reason: row.get(2)?, hint: row.get(3)? };
                Ok(JobTrouble { job: row.get(0)?, since: Timestamp(row.get(1)?), trouble })
            };
            statement.query_map([], row)?.collect()
        };
        ask().map_err(|error| self.failed(error))
    }

    /// What a job left undone; `None`: nothing.
    pub fn note_job_trouble(&self, name: &str, at: Timestamp, trouble: Option<&Trouble>) -> Result<(), Error> {
        let noted = match trouble {
            Some(Trouble { reason, hint }) => self.connection.execute(
                "INSERT INTO job_trouble (name, since, reason, hint) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET reason = ?3, hint = ?4",
                params![name, at.0, reason, hint],
            ),
            None => self.connection.execute("DELETE FROM job_trouble WHERE name = ?1", params![name]),
        };
        noted.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Since when sites that nobody has backed up yet are seen in their sources: now, where this is the first look.
    /// `all_answer`: who is not among them is forgotten; else a source may hide them for a while.
    pub fn new_sites(
        &mut self,
        sites: &BTreeSet<SiteId>,
        all_answer: bool,
        now: Timestamp,
    ) -> Result<BTreeMap<SiteId, Timestamp>, Error> {
        let mut note = || -> rusqlite::Result<_> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let known: BTreeMap<String, i64> = {
                let mut statement = transaction.prepare_cached("SELECT site, first_at FROM listed")?;
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
            };
            let names: BTreeSet<&str> = sites.iter().map(SiteId::as_str).collect();
            for gone in known.keys().filter(|known| all_answer && !names.contains(known.as_str())) {
                transaction.execute("DELETE FROM listed WHERE site = ?1", params![gone])?;
            }
            for new in names.iter().filter(|name| !known.contains_key(**name)) {
                transaction.execute("INSERT INTO listed (site, first_at) VALUES (?1, ?2)", params![new, now.0])?;
            }
            transaction.commit()?;
            let first_at = |site: &SiteId| Timestamp(known.get(site.as_str()).map_or(now.0, |at| (*at).min(now.0)));
            Ok(sites.iter().map(|site| (site.clone(), first_at(site))).collect())
        };
        note().map_err(|error| self.failed(error))
    }

    /// The sites that were read back from here.
    pub fn read_back(&self) -> Result<BTreeMap<SiteHandle, ReadBack>, Error> {
        let ask = || -> rusqlite::Result<_> {
            let mut statement = self.connection.prepare_cached("SELECT handle, read_at, findings FROM read_back")?;
            let row = |row: &rusqlite::Row<'_>| {
                let findings = row.get::<_, i64>(2)?.cast_unsigned();
                Ok((SiteHandle(row.get(0)?), ReadBack { read_at: Timestamp(row.get(1)?), findings }))
            };
            statement.query_map([], row)?.collect()
        };
        ask().map_err(|error| self.failed(error))
    }

    pub fn note_read_back(&self, handle: SiteHandle, read: ReadBack) -> Result<(), Error> {
        let ReadBack { read_at, findings } = read;
        let noted = self.connection.execute(
            "INSERT INTO read_back (handle, read_at, findings) VALUES (?1, ?2, ?3)
             ON CONFLICT (handle) DO UPDATE SET read_at = ?2, findings = ?3",
            params![handle.0, read_at.0, findings.cast_signed()],
        );
        noted.map(|_| ()).map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_remembered_until_the_catalog_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Catalog::open(&dir.path().join(name), "repository").unwrap().catalog;
        let catalog = open("here");
        assert_eq!((catalog.jobs().unwrap().len(), catalog.read_back().unwrap().len()), (0, 0));
        catalog.note_job("drill", Timestamp(7)).unwrap();
        catalog.note_job("drill", Timestamp(8)).unwrap();
        let trouble = |reason: &str| Trouble { reason: reason.into(), hint: Some("look".into()) };
        catalog.note_job_trouble("drill", Timestamp(7), Some(&trouble("one"))).unwrap();
        catalog.note_job_trouble("drill", Timestamp(8), Some(&trouble("two"))).unwrap();
        catalog.note_job_trouble("prune", Timestamp(8), Some(&trouble("three"))).unwrap();
        catalog.note_job_trouble("prune", Timestamp(9), None).unwrap();
        let acme = SiteHandle([7; 16]);
        catalog.note_read_back(acme, ReadBack { read_at: Timestamp(5), findings: 2 }).unwrap();
        catalog.note_read_back(acme, ReadBack { read_at: Timestamp(6), findings: 0 }).unwrap();
        drop(catalog);
        let again = open("here");
        assert_eq!(again.jobs().unwrap(), BTreeMap::from([("drill".to_owned(), Timestamp(8))]));
        let since_first = JobTrouble { job: "drill".into(), since: Timestamp(7), trouble: trouble("two") };
        assert_eq!(again.job_troubles().unwrap(), [since_first]);
        let read = ReadBack { read_at: Timestamp(6), findings: 0 };
        assert_eq!(again.read_back().unwrap(), BTreeMap::from([(acme, read)]));
        assert!(open("another").read_back().unwrap().is_empty());
    }
}
