//! Classes on a real server: every row has the owner that two ways of asking agree on.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::SourceName;
use lifeboat_source::Source;
use lifeboat_source::postgres::describe::literal;
use lifeboat_source::postgres::{Catalogue, Classes, PostgresConfig, PostgresSource, classify};
use lifeboat_testkit::postgres::{NASTY_SITES, Postgres, nasty_config, pooled_config, run_sql, site_name};

use crate::support::{connect, name, nasty, pooled};

#[test]
fn tenants_that_are_equal_and_written_otherwise_are_refused_and_never_left_out() {
    let Some(server) = Postgres::shared_or_skip("tenants_written_otherwise") else { return };
    let insensitive = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";
    let citext = "CREATE EXTENSION citext;";
    for (before, kind, root, same, other) in [
        ("", "numeric", "'1'", "'1'", "'1.00'"),
        ("", "double precision", "'0'", "'0'", "'-0'"),
        (insensitive, "text COLLATE ci", "'Acme'", "'Acme'", "'ACME'"),
        (citext, "citext", "'Acme'", "'Acme'", "'acme'"),
    ] {
        for key in ["REFERENCES sites", ""] {
            let url = server.fresh_database().unwrap();
            run_sql(&url, before).unwrap();
            run_sql(
                &url,
                &format!(
                    "CREATE TABLE sites (id {kind} PRIMARY KEY); INSERT INTO sites VALUES ({root});
                     CREATE TABLE a (id int PRIMARY KEY, site_id {kind} {key}); INSERT INTO a VALUES (1, {same})"
                ),
            )
            .unwrap();
            let config = PostgresConfig { shared: Vec::new(), ..pooled_config(&url) };
            let source = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
            assert_eq!(source.discover().unwrap().sites.len(), 1, "{kind}");
            run_sql(&url, &format!("INSERT INTO a VALUES (2, {other})")).unwrap();
            let error = source.discover().unwrap_err();
            assert!(error.to_string().contains("written in several ways"), "{kind} {key}: {error}");
        }
    }
}

/// What each table's rows are: by site, and of nobody.
fn rows_by_owner(url: &str, config: &PostgresConfig) -> (Classes, BTreeMap<String, BTreeMap<Option<String>, i64>>) {
    let mut session = connect(url);
    let catalogue = Catalogue::load(&mut session).unwrap();
    let classes = classify("app", &catalogue, config).unwrap();
    classes.refuse_unclassed("app").unwrap();
    let sites: Vec<String> =
        session.query(&classes.tenant_query(), &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let mut all = BTreeMap::new();
    for table in catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name)) {
        let (from, tenant) = (table.from_item(), classes.tenant_of(&table.name));
        let query = format!("SELECT {}, count(*) FROM {from} t {} GROUP BY 1", tenant.expression, tenant.joins);
        let by_join: BTreeMap<Option<String>, i64> =
            session.query(&query, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut by_condition = BTreeMap::new();
        for site in &sites {
            let condition = classes.predicate(&table.name, "t", &literal(site));
            let query = format!("SELECT count(*) FROM {from} t WHERE {condition}");
            let count: i64 = session.query_one(&query, &[]).unwrap().get(0);
            by_condition.extend((count > 0).then_some((Some(site.clone()), count)));
        }
        let total: i64 = session.query_one(&format!("SELECT count(*) FROM {from} t"), &[]).unwrap().get(0);
        let owned: i64 = by_condition.values().sum();
        by_condition.extend((total > owned).then_some((None, total - owned)));
        assert_eq!(by_join, by_condition, "{}", table.name);
        all.insert(table.name.to_string(), by_condition);
    }
    (classes, all)
}

// Explains invariant: one-owner
#[test]
fn every_row_of_the_nasty_schema_has_the_owner_it_should() {
    let Some(url) = nasty("every_row_of_the_nasty_schema_has_the_owner_it_should") else { return };
    let (classes, rows) = rows_by_owner(&url, &nasty_config(&url));
    let words = |table: &str| classes.get(&name(table)).unwrap().to_string();
    assert_eq!(words("app.order_lines"), "via (order_tenant, order_number) -> app.orders.(tenant_id, number)");
    assert_eq!(words("app.payments"), "via account_id -> app.accounts.id", "never NULL goes first");
    assert_eq!(words("app.remarks"), "via account_id -> app.accounts.id, else invoice_id -> app.invoices.id");
    assert_eq!(words("app.threads"), "via account_id -> app.accounts.id");
    assert_eq!(words("app.posts"), "via thread_id -> app.threads.id");
    assert_eq!(words("app.reactions"), "via kind, Account: ref -> app.accounts.id, Invoice: ref -> app.invoices.id");
    assert_eq!(words("app.samples_0"), "partition of app.samples");
    let nobody: BTreeMap<&str, i64> =
        rows.iter().filter_map(|(table, by)| Some((table.as_str(), *by.get(&None)?))).collect();
    assert_eq!(nobody, BTreeMap::from([("app.legacy", 1), ("app.log_lines", 1)]));
    for (table, by) in &rows {
        let owners: BTreeSet<&str> = by.keys().flatten().map(String::as_str).collect();
        let want = if table == "app.empty_rows" { &NASTY_SITES[..1] } else { &NASTY_SITES };
        assert_eq!(owners, want.iter().copied().collect(), "{table}");
    }
    assert_eq!(rows["app.vehicles"].len(), 4);
    assert_eq!(rows["app.vehicles"].values().sum::<i64>(), 4, "its heirs' rows are their own table's");
}

#[test]
fn a_pooled_fleet_is_classed_without_a_rule_for_any_table() {
    let Some(url) = pooled("a_pooled_fleet_is_classed_without_a_rule_for_any_table", 3) else { return };
    let (classes, rows) = rows_by_owner(&url, &pooled_config(&url));
    assert_eq!(classes.get(&name("public.comments")).unwrap().to_string(), "via issue_id -> public.issues.id");
    assert_eq!(rows.len(), 10);
    for (table, by) in &rows {
        assert_eq!(by.len(), 3, "{table}");
        assert!(by.contains_key(&Some(site_name(2))), "{table}");
    }
}

#[test]
fn a_site_without_its_root_row_is_still_listed() {
    let Some(url) = pooled("a_site_without_its_root_row_is_still_listed", 2) else { return };
    run_sql(&url, "SET session_replication_role = replica; DELETE FROM sites WHERE id = 'site-00002'").unwrap();
    let mut session = connect(&url);
    let catalogue = Catalogue::load(&mut session).unwrap();
    let classes = classify("app", &catalogue, &pooled_config(&url)).unwrap();
    let sites = session.query(&classes.tenant_query(), &[]).unwrap();
    // `audit.events` has no foreign key to the root.
    assert_eq!(sites.len(), 2);
}

#[test]
fn a_second_spelling_of_a_number_is_no_site() {
    let Some(url) = pooled("a_second_spelling_of_a_number_is_no_site", 1) else { return };
    run_sql(&url, "CREATE SCHEMA n; CREATE TABLE n.t (id int PRIMARY KEY, org int); INSERT INTO n.t VALUES (1, 7)")
        .unwrap();
    let mut session = connect(&url);
    let catalogue = Catalogue::load(&mut session).unwrap();
    let mut config = pooled_config(&url);
    (config.tenant_column, config.root, config.shared) = (Some("org".to_owned()), None, Vec::new());
    let classes = classify("app", &catalogue, &config).unwrap();
    let mut count = |site: &str| {
        let condition = classes.predicate(&name("n.t"), "t", &literal(site));
        let row = session.query_one(&format!("SELECT count(*) FROM n.t t WHERE {condition}"), &[]);
        row.map(|row| row.get::<_, i64>(0)).map_err(|error| error.code().unwrap().code().to_owned())
    };
    assert_eq!(count("7"), Ok(1));
    assert_eq!(count("007"), Ok(0));
    assert_eq!(count("7 "), Ok(0));
    assert_eq!(count("seven"), Err("22P02".to_owned()));
    assert_eq!(count("99999999999"), Err("22003".to_owned()));
}
