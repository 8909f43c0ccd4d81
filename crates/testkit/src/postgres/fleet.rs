//! A pooled database of a made-up product: ten tables hold the rows of every site.

use std::collections::BTreeMap;

use lifeboat_source::postgres::{NamePattern, PostgresConfig, TableName, Tenancy};

use super::{query_text, run_sql};

/// Names of the counts in the SQL, and how many of a thousand rows each table gets.
const SHARES: [(&str, u32); 9] = [
    ("projects", 10),
    ("labels", 20),
    ("users", 60),
    ("events", 80),
    ("attachments", 80),
    ("worklog", 150),
    ("issue_labels", 150),
    ("issues", 200),
    ("comments", 250),
];

/// The id of the `number`-th site, from 1.
pub fn site_name(number: u32) -> String {
    format!("site-{number:05}")
}

/// Makes the tables and fills them: `sites` sites, each of about `rows` rows in all its tables.
///
/// The same arguments make the same rows, ids and sequences.
pub fn pooled_fleet(url: &str, sites: u32, rows: u32) -> Result<(), String> {
    let makes_sites = format!(
        "INSERT INTO sites SELECT 'site-' || to_char(n, 'FM00000'), 'Site ' || n, 1 + n % 3,
             (ARRAY['DE', 'FR', 'NZ'])[1 + n % 3], '2026-01-01'::timestamptz + n * interval '1 hour'
         FROM generate_series(1, {sites}) n;"
    );
    let schema = include_str!("fleet.sql");
    let filled = rows_sql("true", 1, rows);
    let keys = include_str!("fleet_keys.sql");
    run_sql(url, &format!("{schema};{makes_sites};{filled}{keys}"))?;
    run_sql(url, "ANALYZE")
}

/// Adds about `rows` rows to one site.
pub fn grow_site(url: &str, site: u32, rows: u32) -> Result<(), String> {
    let site = site_name(site);
    let top = query_text(url, &format!("SELECT max(number) + 1 FROM issues WHERE site_id = '{site}'"))?;
    let top: u32 = top[0][0].as_deref().and_then(|text| text.parse().ok()).unwrap_or(1);
    run_sql(url, &rows_sql(&format!("s.id = '{site}'"), top, rows))?;
    run_sql(url, "ANALYZE")
}

/// How the fleet is to be read.
pub fn pooled_config(url: &str) -> PostgresConfig {
    PostgresConfig {
        url: url.to_owned(),
        tenancy: Tenancy::Column,
        names: NamePattern::default(),
        not_sites: Vec::new(),
        pg_dump: None,
        tenant_column: Some("site_id".to_owned()),
        root: Some(TableName::quoted("sites")), // as the example has it: without its schema
        shared: ["public.countries", "public.plans"].map(TableName::quoted).to_vec(),
        ignored: Vec::new(),
        tables: BTreeMap::new(),
    }
}

fn rows_sql(made: &str, first: u32, rows: u32) -> String {
    let mut sql = include_str!("fleet_rows.sql").replace(":made", made).replace(":first", &first.to_string());
    // Longest first: `:issues` must not eat into `:issue_labels`.
    let mut shares = SHARES;
    shares.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, share) in shares {
        let count = (u64::from(rows) * u64::from(share) / 1000).max(1);
        sql = sql.replace(&format!(":{name}"), &count.to_string());
    }
    sql
}
