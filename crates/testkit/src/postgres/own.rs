//! Sites with a schema or a database of their own.

use lifeboat_source::postgres::{NamePattern, PostgresConfig, Tenancy};

use super::{pooled_config, run_sql};

/// Fills `schema` (as written in SQL, there already) with a site of `rows` issues: every kind of thing
/// that a schema may hold.
pub fn own_site(url: &str, schema: &str, rows: u32) -> Result<(), String> {
    let sql = include_str!("own.sql").replace(":schema", schema).replace(":rows", &rows.to_string());
    run_sql(url, &sql)
}

/// How such sites are to be read; `names` has `{site}` in it.
pub fn own_config(url: &str, tenancy: Tenancy, names: &str) -> PostgresConfig {
    PostgresConfig {
        tenancy,
        names: NamePattern::parse(names).expect("a pattern"),
        not_sites: vec!["public".to_owned(), "postgres".to_owned()],
        tenant_column: None,
        root: None,
        shared: Vec::new(),
        ..pooled_config(url)
    }
}
