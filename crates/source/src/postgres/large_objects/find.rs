//! Which large objects there are, and what the catalogue knows of them.

use std::collections::BTreeMap;

use postgres::Error as SqlError;

use super::super::tenancy::SiteTable;
use super::super::{Catalogue, Classes, Column, Session};
use super::definition::{Grants, LargeObjectDefinition};
use crate::Error;

const ACTION: &str = "cannot look for large objects";

/// Whether the role may do this with the object `m` of `pg_largeobject_metadata`, as SQL.
/// (`has_largeobject_privilege` is younger than what we support.)
fn may(privilege: &str, or: &str) -> String {
    format!(
        "({or} OR current_setting('is_superuser')::bool OR current_setting('lo_compat_privileges')::bool \
         OR EXISTS (SELECT FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) a \
            WHERE a.privilege_type = '{privilege}' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))))"
    )
}

/// The same of reading: by its own privileges, or with all others by the table of all bytes, which
/// superusers and `pg_read_all_data` may read.
pub fn may_read() -> String {
    may("SELECT", "has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')")
}

/// A large object that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLargeObject {
    pub oid: u32,
    /// All but the digest, for which the bytes must be read.
    pub definition: LargeObjectDefinition,
    pub is_readable: bool,
    /// Whether the role may write it.
    pub is_writable: bool,
}

fn columns(tables: &[SiteTable]) -> impl Iterator<Item = (&SiteTable, &Column)> {
    let columns = tables.iter().flat_map(|one| one.table.columns.iter().map(move |column| (one, column)));
    columns.filter(|(_, column)| column.is_large_object)
}

/// The numbers that a site's rows refer to and that exist, in their order.
pub fn of_rows(session: &mut Session, tables: &[SiteTable]) -> Result<Vec<u32>, Error> {
    let refer = columns(tables).map(|(SiteTable { table, condition, .. }, column)| {
        let (item, column) = (table.from_item(), &column.quoted);
        format!("SELECT t.{column}::pg_catalog.oid FROM {item} t WHERE ({condition}) AND t.{column} IS NOT NULL")
    });
    let refer: Vec<String> = refer.collect();
    if refer.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT m.oid FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid IN ({}) ORDER BY 1",
        refer.join(" UNION ALL ")
    );
    numbers(session, &query)
}

/// The same of all sites that share their tables, each site's behind its id: one read of each table.
pub fn of_each(
    session: &mut Session,
    catalogue: &Catalogue,
    classes: &Classes,
) -> Result<BTreeMap<String, Vec<u32>>, Error> {
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for table in catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name)) {
        for column in table.columns.iter().filter(|column| column.is_large_object) {
            let tenant = classes.tenant_of(&table.name);
            let query = format!(
                "SELECT {}, m.oid FROM {} t {} JOIN pg_catalog.pg_largeobject_metadata m ON m.oid = t.{}::pg_catalog.oid",
                tenant.expression,
                table.from_item(),
                tenant.joins,
                column.quoted
            );
            for row in session.query(&query, &[]).map_err(|error| session.failed(ACTION, &error))? {
                if let Some(site) = row.get::<_, Option<String>>(0) {
                    found.entry(site).or_default().push(row.get(1));
                }
            }
        }
    }
    for oids in found.values_mut() {
        oids.sort_unstable();
        oids.dedup();
    }
    Ok(found)
}

/// Whether the database has any.
pub fn are_any(session: &mut Session) -> Result<bool, Error> {
    let found = session.query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)", &[]);
    Ok(found.map_err(|error| session.failed(ACTION, &error))?.get(0))
}

/// All of the database.
pub fn all(session: &mut Session) -> Result<Vec<u32>, Error> {
    numbers(session, "SELECT m.oid FROM pg_catalog.pg_largeobject_metadata m ORDER BY 1")
}

fn numbers(session: &mut Session, query: &str) -> Result<Vec<u32>, Error> {
    let rows = session.query(query, &[]).map_err(|error| session.failed(ACTION, &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What the catalogue knows of these objects, in their order; those that do not exist are left out.
pub fn details(session: &mut Session, oids: &[u32]) -> Result<Vec<FoundLargeObject>, Error> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let (may_read, may_write) = (may_read(), may("UPDATE", "false"));
    let query = format!(
        "SELECT m.oid, pg_get_userbyid(m.lomowner)::text, obj_description(m.oid, 'pg_largeobject'), {may_read}, \
         {may_write}, CASE WHEN m.lomacl IS NOT NULL THEN coalesce((SELECT jsonb_agg(DISTINCT jsonb_build_array( \
            CASE WHEN g.grantee = 0 THEN NULL ELSE pg_get_userbyid(g.grantee)::text END, g.privilege_type, g.is_grantable)) \
            FROM aclexplode(m.lomacl) g), '[]')::text END \
         FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = ANY ($1) ORDER BY m.oid"
    );
    let rows = session.query(&query, &[&oids]).map_err(|error: SqlError| session.failed(ACTION, &error))?;
    let one = |row: &postgres::Row| {
        let grants: Option<String> = row.get(5);
        // The server wrote it: it is what we asked for.
        let grants = grants.map(|json| serde_json::from_str::<Grants>(&json).unwrap_or_default());
        let definition =
            LargeObjectDefinition { owner: row.get(1), grants, comment: row.get(2), blake3: String::new() };
        FoundLargeObject { oid: row.get(0), definition, is_readable: row.get(3), is_writable: row.get(4) }
    };
    Ok(rows.iter().map(one).collect())
}
