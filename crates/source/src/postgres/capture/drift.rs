//! Drift: what has become different about a database's tables since it is followed, and what can be done.
//!
//! ```text
//! look    whose rows are whose? ▸ publications as they are wanted? ─▶ Drift, nothing is changed
//! join    new tables without a row, locked while they join: from here on all of their rows are in the log; with rows
//!         where each site has its own tables, and the stream says which
//! break   rows were or are changed unseen: a new epoch makes it whole
//! ```
//!
//! What is not here: when to look, and the epochs (`lifeboat-engine`).

use std::collections::BTreeSet;

use super::publication::{Coverage, Difference, coverage, differences, join, set_up};
use super::sites::Sites;
use super::slot::{SlotSeen, capture_name, drop_slot, slot_seen};
use crate::postgres::routing::Router;
use crate::postgres::{PostgresSource, TableName, Tenancy};
use crate::{Error, Source};

/// How a database is, beside what the capture counts on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drift {
    /// Nobody can say whose the rows of these are: they are in no snapshot, and not in the log.
    pub unclassed: Vec<TableName>,
    pub differences: Vec<Difference>,
}

impl Drift {
    /// Tables that are to be shown and are not.
    fn lacking(&self) -> impl Iterator<Item = &TableName> {
        self.differences.iter().filter_map(|difference| match difference {
            Difference::LacksTable { table, .. } => Some(table),
            _ => None,
        })
    }

    /// What of it has hidden changes, or may have; `None`: nothing.
    pub fn hides(&self) -> Option<&Difference> {
        self.differences
            .iter()
            .find(|difference| !matches!(difference, Difference::HasTable { .. } | Difference::LacksTable { .. }))
    }
}

/// After new tables have joined.
pub struct Joined {
    pub router: Router,
    /// Tables whose changes are not, or not all, in the stream.
    pub partly: BTreeSet<String>,
    /// Tables that could not join.
    pub left: Vec<TableName>,
}

impl PostgresSource {
    /// Whether changes of this source can be followed in this version, by how its sites are kept apart.
    pub fn can_be_captured(&self) -> bool {
        self.config().tenancy != Tenancy::Database
    }

    /// Looks, and changes nothing.
    pub fn drift(&self) -> Result<Drift, Error> {
        Ok(self.look_for_drift()?.0)
    }

    /// The slot of its capture; `None`: there is none.
    pub fn capture_slot(&self) -> Result<Option<SlotSeen>, Error> {
        slot_seen(&mut self.server().connect()?, &self.slot_name())
    }

    /// Drops the slot of its capture: the server need not keep its log for it any more.
    pub fn drop_capture_slot(&self) -> Result<(), Error> {
        drop_slot(&mut self.server().connect()?, &self.slot_name())
    }

    /// What tells whose changes are, as the database is now.
    pub fn current_router(&self) -> Result<Router, Error> {
        Ok(Sites::load(self)?.router)
    }

    /// Lets tables that have no row yet join what is followed, and gives a router that knows them. What is
    /// still lacking then has rows that the log does not have: a new epoch is needed for those. Where each site
    /// has its own tables, those with rows join too, and the stream says so ([`super::JOINED`]): only that site needs a base.
    pub fn join_empty_tables(&self) -> Result<Joined, Error> {
        let (drift, covered, has_own_tables) = self.look_for_drift()?;
        let (mut session, name) = (self.server().connect()?, capture_name(self.name().as_str()));
        let mut left = Vec::new();
        for table in drift.lacking() {
            if !join(&mut session, &name, &covered, (table, has_own_tables))? {
                left.push(table.clone());
            }
        }
        if left.is_empty() && drift.hides().is_none() {
            set_up(&mut session, &name, &covered)?; // takes out what is too much
        }
        Ok(Joined { router: Sites::load(self)?.router, partly: covered.partly(), left })
    }

    /// Whether rows of the table are sites', as the database is now; `None`: there is no such table.
    pub fn is_of_sites(&self, table: &str) -> Result<Option<bool>, Error> {
        let sites = Sites::load(self)?;
        Ok(sites.catalogue.tables.get(&TableName::quoted(table)).map(|table| sites.is_of_sites(table)))
    }

    fn look_for_drift(&self) -> Result<(Drift, Coverage, bool), Error> {
        let mut session = self.server().connect()?;
        let sites = Sites::load(self)?;
        let covered = coverage(&mut session, &sites.catalogue, &|table| sites.is_of_sites(table))?;
        let found = differences(&mut session, &self.slot_name(), &covered)?;
        Ok((Drift { unclassed: sites.unclassed(), differences: found }, covered, sites.has_own_tables()))
    }
}
