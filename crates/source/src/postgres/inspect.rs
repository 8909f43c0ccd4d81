//! A look at a database before it is backed up: what is whose, what is nobody's, what may not be read.
//!
//! Reads only. Rows are counted, never shown.

use std::collections::BTreeSet;

use lifeboat_model::SiteId;

use super::indexes::missing_indexes;
use super::privileges::{missing_for, missing_memberships};
use super::target::{CopiedSchema, copied_databases, copied_schemas, staging_schemas};
use super::{
    Catalogue, Class, Classes, MissingPrivilege, PostgresConfig, Server, ServerFacts, Session, TableKind, TableName,
    Tenancy, classify, missing_privileges, structure, tenancy,
};
use crate::Error;

/// Counting the rows of nobody reads whole tables: one that takes longer is not counted.
const COUNT_MAX: &str = "SET statement_timeout = '60s'";

/// So many sites are asked for what the role may not do there.
const SITES_ASKED: usize = 20;

/// What an operator should know of a database.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub server: ServerFacts,
    pub classes: Classes,
    /// `None`: what lists them cannot be read.
    pub sites: Option<u64>,
    /// Sites whose ids cannot be told on a command line, so that no snapshot has them: id and reason.
    pub unnamed: Vec<(String, String)>,
    pub tables: Vec<InspectedTable>,
    /// What would class the unclassed tables: lines for the source's section.
    pub suggested_lines: Vec<String>,
    pub missing: Vec<MissingPrivilege>,
    pub views: Vec<TableName>,
    /// Schemas that hold what `restore --beside` copied: no part of any site.
    pub copies: Vec<CopiedSchema>,
    /// Schemas of restores that run now or were killed.
    pub staging: Vec<String>,
    /// Where each site has a schema or a database of its own: those that are no site's.
    pub not_sites: Vec<String>,
}

/// A table that is not a partition.
#[derive(Debug, Clone)]
pub struct InspectedTable {
    pub name: TableName,
    pub class: Class,
    /// The planner's; negative: never analysed.
    pub rows_estimate: i64,
    /// Rows that no site owns, so that no snapshot has them; `None`: not counted, it may not be read or is too long.
    pub ownerless_rows: Option<u64>,
    pub partitions: usize,
    /// What about it makes a backup or a restore less than one would think.
    pub notes: Vec<String>,
    /// What would spare reading everybody's rows to find one site's.
    pub missing_index: Option<String>,
}

impl Inspection {
    /// Reads the catalogue, classes every table, counts the rows of nobody and asks for privileges.
    pub fn of(server: &Server, config: &PostgresConfig) -> Result<Self, Error> {
        if config.tenancy != Tenancy::Column {
            return Self::of_own(server, config);
        }
        let mut session = server.connect()?;
        let catalogue = Catalogue::load(&mut session)?;
        let classes = classify(server.source_name(), &catalogue, config)?;
        let missing = missing_privileges(&mut session, &catalogue, &classes)?;
        let (copies, staging) = (copied_schemas(&mut session)?, staging_schemas(&mut session)?);
        session.batch_execute(COUNT_MAX).map_err(|error| session.failed("cannot set a time-out", &error))?;
        let sites = count(&mut session, &format!("SELECT count(*) FROM ({}) s", classes.tenant_query()))?;
        let unnamed = if sites.is_some() { unnamed(&mut session, &classes)? } else { Vec::new() };
        let missing_indexes = missing_indexes(&mut session, &catalogue, &classes)?;
        let mut tables = Vec::new();
        for (name, class) in classes.iter().filter(|(_, class)| !matches!(class, Class::PartOf(_))) {
            let mut table = inspected(&mut session, &catalogue, &classes, name, class)?;
            table.missing_index = missing_indexes.get(name).cloned();
            tables.push(table);
        }
        let suggested_lines = classes.suggested_lines();
        let (server, views) = (catalogue.server, catalogue.views);
        Ok(Self {
            server,
            sites,
            unnamed,
            tables,
            suggested_lines,
            missing,
            views,
            copies,
            staging,
            classes,
            not_sites: Vec::new(),
        })
    }

    /// Of sites with a schema or a database each: all that is in there is theirs, so there is nothing
    /// to class. The role's privileges are asked of the first sites; the others are made alike.
    fn of_own(server: &Server, config: &PostgresConfig) -> Result<Self, Error> {
        let mut door = server.connect()?;
        let facts = Catalogue::server(&mut door)?;
        structure::program(server, config, facts.version)?;
        let sites = tenancy::names(&mut door, config)?;
        let not_sites = tenancy::other_names(&mut door, config)?;
        let mut missing: Vec<MissingPrivilege> = Vec::new();
        for name in sites.iter().take(SITES_ASKED) {
            let (server, schema) = match config.tenancy {
                Tenancy::Database => (server.with_database(name), None),
                _ => (server.clone(), Some(name.as_str())),
            };
            let mut session = server.connect()?;
            let catalogue = Catalogue::load_schema(&mut session, schema)?;
            let is_written = |table: &TableName| {
                let table = catalogue.tables.get(table)?;
                Some(schema.is_none_or(|schema| table.schema == schema))
            };
            let mut lacking = missing_for(&mut session, &catalogue, &is_written)?;
            lacking.extend(missing_memberships(&mut session, schema)?);
            missing.extend(lacking.into_iter().filter(|one| !missing.contains(one)).collect::<Vec<_>>());
        }
        let copies = match config.tenancy {
            Tenancy::Schema => copied_schemas(&mut door)?,
            _ => copied_databases(&mut door)?,
        };
        Ok(Self {
            server: facts,
            classes: Classes::default(),
            sites: Some(sites.len() as u64),
            unnamed: Vec::new(),
            tables: Vec::new(),
            suggested_lines: Vec::new(),
            missing,
            views: Vec::new(),
            copies,
            staging: staging_schemas(&mut door)?,
            not_sites,
        })
    }
}

fn inspected(
    session: &mut Session,
    catalogue: &Catalogue,
    classes: &Classes,
    name: &TableName,
    class: &Class,
) -> Result<InspectedTable, Error> {
    let parts = classes.iter().filter(|(_, class)| matches!(class, Class::PartOf(root) if root == name)).count();
    let mut table = InspectedTable {
        name: name.clone(),
        class: class.clone(),
        rows_estimate: -1,
        ownerless_rows: None,
        partitions: parts,
        notes: Vec::new(),
        missing_index: None,
    };
    let Some(found) = catalogue.tables.get(name) else { return Ok(table) };
    table.rows_estimate = found.rows_estimate;
    if !class.is_of_sites() {
        return Ok(table);
    }
    if found.primary_key.is_none() {
        table.notes.push("has no primary key: rows are told apart by all their values".to_owned());
    }
    let leaves =
        catalogue.tables.values().filter(|leaf| matches!(&leaf.kind, TableKind::Partition { root } if root == name));
    let always: BTreeSet<&str> =
        leaves.chain([found]).flat_map(|table| &table.always_triggers).map(String::as_str).collect();
    if !always.is_empty() {
        let always: Vec<&str> = always.into_iter().collect();
        table.notes.push(format!("fires in a restore too: {}", always.join(", ")));
    }
    if found.is_unlogged {
        table.notes.push("is unlogged: a crash of the server empties it".to_owned());
    }
    let tenant = classes.tenant_of(name);
    let query =
        format!("SELECT count(*) FROM {} t {} WHERE {} IS NULL", found.from_item(), tenant.joins, tenant.expression);
    table.ownerless_rows = count(session, &query)?;
    Ok(table)
}

/// The ids that are none of a site's, as they are shown, with the reason.
fn unnamed(session: &mut Session, classes: &Classes) -> Result<Vec<(String, String)>, Error> {
    let rows = session.query(&classes.tenant_query(), &[]);
    let rows = rows.map_err(|error| session.failed("cannot list the sites", &error))?;
    let refused = rows.iter().filter_map(|row| {
        let id: String = row.get(0);
        let reason = SiteId::new(id.clone()).err()?;
        Some((crate::error::shown(id.as_bytes()), reason.to_string()))
    });
    Ok(refused.collect())
}

/// `None`: it may not be read, or takes too long.
fn count(session: &mut Session, query: &str) -> Result<Option<u64>, Error> {
    use postgres::error::SqlState;
    match session.query_one(query, &[]) {
        Ok(row) => Ok(u64::try_from(row.get::<_, i64>(0)).ok()),
        Err(error) if matches!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::QUERY_CANCELED)) => {
            Ok(None)
        }
        Err(error) => Err(session.failed("cannot count rows", &error)),
    }
}
