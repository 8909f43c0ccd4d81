//! A database with everything that makes one tenant's rows hard to find, or to put back.

use std::collections::BTreeMap;

use lifeboat_source::postgres::{NamePattern, PostgresConfig, Reference, TableName, TableRule, Tenancy};

use super::{query_text, run_sql};

/// The sites of [`nasty_schema`]; one is the beginning of another, the last has no row in some tables.
pub const NASTY_SITES: [&str; 4] = ["acme", "acme-2", "o'brien & \"sons\"", "a/b %2F é"];

/// Makes the tables, and rows for [`NASTY_SITES`].
///
/// Two tables also hold rows of nobody: `app.log_lines` (no tenant) and `app.legacy` (no such account).
pub fn nasty_schema(url: &str) -> Result<(), String> {
    let sql = include_str!("nasty.sql");
    let version = query_text(url, "SHOW server_version_num")?;
    let version: u32 = version.concat().into_iter().flatten().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    // The one thing in it that 14 does not know.
    run_sql(url, &if version < 150_000 { sql.replace("UNIQUE NULLS NOT DISTINCT", "UNIQUE") } else { sql.to_owned() })
}

/// What an operator has to say so that every table of it has a class.
pub fn nasty_config(url: &str) -> PostgresConfig {
    let name = |table: &str| TableName::quoted(table);
    let to = |table: &str, column: &str| (name(table), column.to_owned());
    let columns = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect();
    let map = [("Invoice", to("app.invoices", "id")), ("Account", to("app.accounts", "id"))];
    let reactions = TableRule::Polymorphic {
        kind: "kind".to_owned(),
        id: "ref".to_owned(),
        map: map.map(|(kind, to)| (kind.to_owned(), to)).into(),
    };
    let undeclared = TableRule::Via(Reference {
        child_columns: columns(&["\"Order Tenant\"", "order_no"]),
        parent: name("app.orders"),
        parent_columns: columns(&["tenant_id", "number"]),
    });
    let entries = TableRule::TenantColumn("\"Tenant Id\"".to_owned());
    PostgresConfig {
        url: url.to_owned(),
        tenancy: Tenancy::Column,
        names: NamePattern::default(),
        not_sites: Vec::new(),
        pg_dump: None,
        tenant_column: Some("tenant_id".to_owned()),
        root: Some(name("app.tenants")),
        shared: vec![name("countries"), name("public.currencies")],
        ignored: vec![name("public.job_queue")],
        tables: BTreeMap::from([
            (name("app.reactions"), reactions),
            (name("app.undeclared"), undeclared),
            (name("\"Audit Log\".\"Event/Entry\""), entries),
        ]),
    }
}
