//! `RowsTarget`: one site's rows in a database that many sites share, and nothing else.
//!
//! ```text
//! open ▸ live ▸ (keep undo) ▸ begin ▸ write_at… ▸ verify ▸ switch ▸ discard_staging
//!        reads only           staging schema, spool   diff   one transaction
//! ```
//!
//! The switch takes a [`VerifiedRows`]: opening what was not verified does not compile. Killed
//! anywhere, the live rows are wholly as before or wholly as wanted, and the same calls finish:
//! staging starts over. A schema that was left behind is swept by the next restore in the database.
//!
//! What is not here: freezing the application, choosing what to restore, keeping the undo.

mod apply;
mod beside;
mod beside_database;
mod compare;
mod diff;
mod fail;
mod keys;
mod large_objects;
mod later;
mod leftovers;
mod make;
mod narrow;
mod privileges;
mod prove;
mod remove;
mod scope;
mod scratch;
mod sequences;
pub(super) mod spool;
mod sql;
mod staging;
mod straight;
mod unusual;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use lifeboat_model::{Check, RestoreId, RowsDigest, RowsDigests, SiteId, TransactionId};

use super::connect::LOCK_TIMEOUT;
use super::describe::{SequenceState, TableDefinition};
use super::large_objects::WantedLargeObject;
use super::locks::Watch;
use super::structure::Structure;
use super::tenancy::{Home, Owners, SiteTable};
use super::{Catalogue, PostgresConfig, Server, Session, TableName, Tenancy};
use crate::Error;
use fail::Ask;
use leftovers::Keeper;
use scope::Scope;
use spool::Spool;

use beside::MARK;
pub use beside::{CopiedSchema, Found, RowsBeside, copied_databases, copied_schemas, staging_schemas};
pub use beside_database::DatabaseBeside;
pub use diff::{Conflict, ConflictKind, KeptRows, TableDiff};
pub use keys::KeyRange;
pub use large_objects::OBJECTS;
pub use later::LeftTable;
pub use narrow::Narrow;
pub use scratch::{DatabasePlace, DrillDatabase, database_place};
pub use sequences::RaisedSequence;

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// One site's part in one database, to be written under one restore id.
pub struct RowsTarget {
    server: Server,
    home: Home,
    site: SiteId,
    /// The staging schema.
    schema: String,
    catalogue: Catalogue,
    live: BTreeMap<TableName, SiteTable>,
    patience: Duration,
    /// `None`: the whole part.
    narrow: Option<Narrow>,
    /// Only missing rows come back.
    keeps_later: bool,
    work: Option<Work>,
}

/// What [`RowsTarget::begin`] has begun.
struct Work {
    scopes: Vec<Scope>,
    spool: Spool,
    wanted: WantedRows,
    /// The rows that were kept for the undo.
    kept: LiveRows,
    way: Way,
    /// What only the switch is missing of. (Chunks are taken from several threads at once, a session is
    /// for one.)
    ready: Mutex<Option<Ready>>,
    /// Says that somebody works with the staging schema.
    keeper: Option<Keeper>,
}

/// How the site's part becomes what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By staging tables, compared with the live ones.
    Staged,
    /// The same, only to be compared.
    Preview,
    /// Straight into tables where the site has nothing.
    Straight,
    /// A schema or database of its own, made again.
    Make,
    /// A schema or database of its own, dropped.
    Remove,
}

/// Verified, and one step from being live.
enum Ready {
    /// Done within this session's transaction, but for its COMMIT.
    Transaction { session: Box<Session>, switched: SwitchedRows },
    /// A database that is to be given its name.
    Renaming { switched: SwitchedRows },
    /// A database that is to lose its name; who discards staging drops it.
    Dropping { switched: SwitchedRows },
}

impl Ready {
    fn switched(&self) -> &SwitchedRows {
        match self {
            Ready::Transaction { switched, .. } | Ready::Renaming { switched } | Ready::Dropping { switched } => {
                switched
            }
        }
    }
}

/// The site's part as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedRows {
    /// Whether there was anything at the point.
    pub is_present: bool,
    pub tables: Vec<WantedTable>,
    /// Large objects that its rows refer to.
    pub objects: Vec<WantedLargeObject>,
    /// Those that the tables take numbers from, as the snapshot had them.
    pub sequences: Vec<SequenceState>,
    /// What makes a schema or a database of the site's own again.
    pub structure: Option<Structure>,
}

/// One table of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTable {
    pub name: TableName,
    pub rows: u64,
    pub digest: RowsDigest,
    /// Bytes of the content.
    pub size: u64,
    pub definition: TableDefinition,
}

/// The site's rows as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveRows {
    /// Whether there is anything: a row in any table, or a schema or database of the site's own.
    pub is_present: bool,
    /// Whether the site has, or would have, a schema or database of its own.
    pub is_own: bool,
    pub tables: Vec<LiveTable>,
    /// Large objects that its rows refer to and that may be read.
    pub objects: Vec<LiveLargeObject>,
}

/// One large object as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLargeObject {
    pub oid: u32,
    pub size: u64,
    pub digest: [u8; 32],
}

/// One table's rows of the site, by the digests an entry of a snapshot would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    pub name: TableName,
    pub rows: u64,
    pub digests: RowsDigests,
    /// How it is told whose a row is, in words, where sites share the table.
    pub rule: Option<String>,
}

impl WantedRows {
    /// Bytes of content: of each table, then of each large object.
    fn sizes(&self) -> impl Iterator<Item = u64> {
        self.tables.iter().map(|table| table.size).chain(self.objects.iter().map(|object| object.size))
    }
}

impl LiveRows {
    pub fn is_absent(&self) -> bool {
        !self.is_present
    }
}

/// Staged rows whose digests are the snapshot's, compared with the live ones.
#[derive(Debug, Clone)]
pub struct VerifiedRows {
    diffs: Vec<TableDiff>,
    conflicts: Vec<Conflict>,
    notes: Vec<String>,
    orphans_allowed: Vec<u64>,
    objects: large_objects::Steps,
    kept: Vec<KeptRows>,
    left: Vec<LeftTable>,
}

impl VerifiedRows {
    /// Of what was done already, but for the last step.
    fn without_conflicts(switched: &SwitchedRows) -> Self {
        Self {
            diffs: switched.tables.clone(),
            conflicts: Vec::new(),
            notes: switched.notes.clone(),
            orphans_allowed: Vec::new(),
            objects: large_objects::Steps::default(),
            kept: Vec::new(),
            left: Vec::new(),
        }
    }

    pub fn tables(&self) -> &[TableDiff] {
        &self.diffs
    }

    /// Any of them keeps the switch from happening.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// What a person should know, and what is in nobody's way.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where later rows are kept: those that differ from the point and stay.
    pub fn kept(&self) -> &[KeptRows] {
        &self.kept
    }

    /// Where later rows are kept: what the tables will hold to which rows come back.
    pub fn left(&self) -> &[LeftTable] {
        &self.left
    }
}

/// A switch that has happened.
#[derive(Debug, Clone)]
pub struct SwitchedRows {
    pub tables: Vec<TableDiff>,
    /// What was proven before COMMIT.
    pub checks: Vec<Check>,
    pub sequences: Vec<RaisedSequence>,
    pub notes: Vec<String>,
    /// That wrote the rows; `None`: none were written, or there was no single one.
    pub transaction: Option<TransactionId>,
}

impl RowsTarget {
    /// Looks up which tables hold rows of the site; changes nothing.
    pub(in crate::postgres) fn open(
        home: &Home,
        config: &PostgresConfig,
        site: &SiteId,
        restore: RestoreId,
    ) -> Result<Self, Error> {
        let catalogue = home.catalogue()?;
        let owners = Owners::of(home.server.source_name(), &catalogue, config)?;
        let tables = owners.tables(&catalogue, home.schema.as_deref(), site).into_iter();
        let live = tables.filter(|live| apply::is_writable(&live.table.kind));
        Ok(Self {
            server: home.server.clone(),
            home: home.clone(),
            site: site.clone(),
            schema: staging::schema_name(restore),
            live: live.map(|live| (live.table.name.clone(), live)).collect(),
            catalogue,
            patience: PATIENCE,
            narrow: None,
            keeps_later: false,
            work: None,
        })
    }

    /// Every table that holds rows of sites, with none: what is wanted of a site that had nothing.
    pub fn no_rows(&self) -> WantedRows {
        let empty = |live: &SiteTable| WantedTable {
            name: live.table.name.clone(),
            rows: 0,
            digest: RowsDigest::InOrder(*blake3::hash(&[]).as_bytes()),
            size: 0,
            definition: TableDefinition::of(&live.table),
        };
        // A schema or database of its own goes as a whole.
        let tables = if self.home.is_own() { Vec::new() } else { self.live.values().map(empty).collect() };
        WantedRows { tables, ..WantedRows::default() }
    }

    /// Waits this long for each lock, not ten seconds.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The site's rows now, all tables at one moment; changes nothing.
    pub fn live(&self) -> Result<LiveRows, Error> {
        if !self.home.exists {
            return Ok(LiveRows { is_own: true, ..LiveRows::default() });
        }
        let mut session = self.server.connect()?;
        let action = "cannot read the site's rows";
        let watch = Watch::over(&self.server, &mut session);
        session.run(action, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", sql::PLANNING))?;
        let names: Vec<String> = self.live.values().map(|live| live.table.from_item()).collect();
        if !names.is_empty() {
            // Before the snapshot: a table truncated after it would read as empty, without an error.
            let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
            session.run(action, &lock).map_err(|fail| Error::from(fail.naming(&watch, LOCK_TIMEOUT)))?;
        }
        let live = prove::live_rows(&mut session, self.live.values())?;
        let live = LiveRows { objects: large_objects::live(&mut session, self)?, ..live };
        let is_own = self.home.is_own();
        Ok(LiveRows { is_present: live.is_present || is_own, is_own, ..live })
    }

    /// Checks what the role may do, makes the staging tables anew and an empty spool.
    ///
    /// `kept`: the rows that were kept for the undo; should the site have changed since, the switch
    /// does nothing.
    pub fn begin(&mut self, wanted: WantedRows, kept: LiveRows) -> Result<(), Error> {
        self.work = None;
        let spool = Spool::create(wanted.sizes())?;
        let way = match (self.home.is_own(), wanted.is_present, self.home.exists) {
            (true, true, false) => Way::Make,
            (true, false, _) if !self.keeps_later => Way::Remove,
            _ => Way::Staged,
        };
        let mut work = Work { scopes: Vec::new(), spool, wanted, kept, way, ready: Mutex::default(), keeper: None };
        if way == Way::Staged {
            let mut session = staging::connect(&self.server)?;
            let indexes = scope::indexes(&mut session)?;
            work.scopes = scope::lay_over(&work.wanted.tables, &self.live, &indexes, &self.catalogue, &self.schema);
            privileges::check(&mut session, &self.catalogue, &work.scopes, &work.wanted.sequences)?;
            leftovers::sweep(&mut session);
            if self.narrow.is_none() && straight::is_possible(&work) {
                work.way = Way::Straight;
            } else {
                work.keeper = Some(leftovers::keep(&self.server, &self.schema)?);
                staging::create(&mut session, &self.schema, &work.scopes)?;
            }
        }
        self.work = Some(work);
        Ok(())
    }

    /// Whether the server takes the tables that a preview needs: a standby takes none.
    pub fn can_preview(&self) -> bool {
        !self.catalogue.server.is_standby
    }

    /// In place of [`Self::begin`]: to be verified and never switched. Staging will be in tables of one
    /// session, which nobody else sees.
    pub fn begin_preview(&mut self, wanted: WantedRows) -> Result<(), Error> {
        self.work = None;
        let mut session = self.server.connect()?;
        privileges::check_preview(&mut session)?;
        let indexes = scope::indexes(&mut session)?;
        let scopes = scope::lay_over(&wanted.tables, &self.live, &indexes, &self.catalogue, staging::TEMPORARY);
        let spool = Spool::create(wanted.sizes())?;
        let (kept, ready) = (LiveRows::default(), Mutex::default());
        self.work = Some(Work { scopes, spool, wanted, kept, way: Way::Preview, ready, keeper: None });
        Ok(())
    }

    /// Takes bytes of a table's content (by its place in what [`Self::begin`] was given), or behind the
    /// tables of a large object's, from any thread and in any order.
    pub fn write_at(&self, table: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.work()?.spool.write_at(table, offset, bytes)
    }

    /// Proves that what is to become live is what the snapshot says, and finds what is in its way.
    pub fn verify(&mut self) -> Result<VerifiedRows, Error> {
        let mut work = self.work.take().ok_or_else(|| self.not_begun())?;
        let verified = match self.make_ready(&work)? {
            Some(ready) => {
                let verified = VerifiedRows::without_conflicts(ready.switched());
                work.ready = Mutex::new(Some(ready));
                verified
            }
            None => self.compare(&mut work)?,
        };
        self.work = Some(work);
        Ok(verified)
    }

    /// What needs no comparison, done up to the last step; `None`: it does.
    fn make_ready(&self, work: &Work) -> Result<Option<Ready>, Error> {
        let schema = self.home.schema.as_deref();
        let structure = || work.wanted.structure.as_ref().ok_or_else(|| self.no_structure());
        Ok(match (work.way, schema) {
            (Way::Staged | Way::Preview, _) => None,
            (Way::Straight, _) => straight::load(self, work)?,
            (Way::Make, Some(_)) => Some(make::schema(self, work, structure()?)?),
            (Way::Make, None) => Some(make::database(self, work, structure()?)?),
            (Way::Remove, Some(name)) => Some(remove::schema(self, work, name)?),
            (Way::Remove, None) => Some(remove::database(self, work)?),
        })
    }

    /// Loads staging, proves that it holds what the snapshot says, and compares it with the live rows.
    fn compare(&self, work: &mut Work) -> Result<VerifiedRows, Error> {
        let mut session = staging::connect(&self.server)?;
        match work.way {
            Way::Preview => staging::create(&mut session, staging::TEMPORARY, &work.scopes)?,
            Way::Straight => staging::create(&mut session, &self.schema, &work.scopes)?,
            _ => {}
        }
        let conflicts = match work.way {
            Way::Preview => staging::load_here(&mut session, &work.scopes, &work.spool)?,
            _ => staging::load_all(&self.server, &work.scopes, &work.spool)?,
        };
        for conflict in conflicts {
            let scope = work.scopes.iter_mut().find(|scope| scope.name == conflict.table);
            scope.into_iter().for_each(|scope| scope.conflicts.push(conflict.clone()));
        }
        let schema = if work.way == Way::Preview { staging::TEMPORARY } else { &self.schema };
        if let Some(chosen) = &self.narrow {
            narrow::narrow(&mut session, &self.catalogue, &mut work.scopes, chosen, schema)?;
        }
        if self.keeps_later {
            later::choose(&mut session, self, &mut work.scopes, schema)?;
        }
        let mut compared = compare::compare(&mut session, &self.catalogue, &work.scopes)?;
        let live =
            if work.way == Way::Preview { large_objects::live(&mut session, self)? } else { work.kept.objects.clone() };
        let asked = match (&self.narrow, self.keeps_later) {
            (Some(_), _) => Some(narrow::objects(&mut session, &work.scopes)?),
            (None, true) => Some(later::objects(&mut session, self, &work.scopes)?),
            (None, false) => None,
        };
        let (steps, conflicts) = large_objects::decide(&mut session, self, work, (&live, asked))?;
        if work.way != Way::Preview {
            large_objects::check_role(&mut session, self, work, &steps)?;
        }
        compared.diffs.extend(steps.diff());
        compared.conflicts.extend(conflicts);
        compared.notes.extend(large_objects::left_over(work, &steps, &live));
        let mut kept = later::kept(&work.scopes);
        kept.extend(large_objects::kept(work, &steps));
        Ok(VerifiedRows {
            diffs: compared.diffs,
            conflicts: compared.conflicts,
            notes: compared.notes,
            orphans_allowed: compared.orphans_allowed,
            objects: steps,
            kept,
            left: later::left(&work.scopes),
        })
    }

    /// Makes the live rows the verified ones, in one transaction.
    ///
    /// [`Error::Conflict`]: something is in the way, see [`VerifiedRows::conflicts`].
    pub fn switch(&mut self, verified: VerifiedRows) -> Result<SwitchedRows, Error> {
        if let Some(conflict) = verified.conflicts.first() {
            return Err(Error::Conflict {
                path: conflict.table.to_string(),
                detail: format!(
                    "the restore is in conflict with the live database, nothing is changed: {} (and {} more)",
                    conflict.detail,
                    verified.conflicts.len() - 1
                ),
                hint: "mend what the plan lists as conflicts, or restore beside and choose the rows by hand".into(),
            });
        }
        let ready = self.work.as_mut().and_then(|work| work.ready.get_mut().ok()?.take());
        let Some(ready) = ready else {
            let work = self.work()?;
            let is_preview = work.way == Way::Preview;
            return if is_preview { Err(self.not_begun()) } else { apply::switch(self, work, &verified) };
        };
        let name = self.home.server.database();
        Ok(match ready {
            Ready::Transaction { mut session, mut switched } => {
                let has_written = switched.tables.iter().any(|diff| diff.writes() > 0) || self.home.is_own();
                switched.transaction = apply::commit(&mut session, &self.server, has_written)?;
                switched
            }
            Ready::Renaming { switched } => {
                make::rename(self, &self.schema, name)?;
                switched
            }
            Ready::Dropping { switched } => {
                make::rename(self, name, &self.schema)?;
                switched
            }
        })
    }

    /// Drops what was staged, by this run and by a killed one under the same id.
    pub fn discard_staging(&mut self) -> Result<(), Error> {
        self.work = None; // ends its transaction
        let mut door = staging::connect(&self.home.door)?;
        if self.home.tenancy == Tenancy::Database {
            make::drop_database(&mut door, &self.schema)?;
            if !make::has_database(&mut door, self.server.database())? {
                return Ok(());
            }
            door = staging::connect(&self.server)?;
        }
        staging::drop_schema(&mut door, &self.schema).map_err(Error::from)
    }

    /// The same for everybody who restores this site in this database.
    fn advisory_key(&self) -> i64 {
        let hash = blake3::hash(format!("lifeboat restore of site {}", self.site).as_bytes());
        let (first, _) = hash.as_bytes().split_at(8);
        first.iter().fold(0_i64, |key, byte| (key << 8) | i64::from(*byte))
    }

    fn no_structure(&self) -> Error {
        Error::Conflict {
            path: self.site.to_string(),
            detail: "the site's schema or database is gone, and the snapshot does not hold its structure".into(),
            hint: "choose a point that was taken with this tenancy, or export this one and load it by hand".into(),
        }
    }

    fn work(&self) -> Result<&Work, Error> {
        self.work.as_ref().ok_or_else(|| self.not_begun())
    }

    fn not_begun(&self) -> Error {
        Error::Database {
            source_name: self.server.source_name().to_owned(),
            action: "cannot restore rows".into(),
            detail: "nothing has begun".into(),
            hint: String::new(),
            fault: lifeboat_model::Fault::Bug,
        }
    }
}
