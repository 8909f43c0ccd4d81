//! `sources inspect` of a pooled PostgreSQL, from a first guess to a clean bill.

use lifeboat_testkit::postgres::{Postgres, nasty_schema, run_sql};

use crate::place::Place;

/// What an operator writes first.
const FIRST: &str = "
[sources.app]
kind = \"postgres\"
url = \"env:TEST_DATABASE_URL\"
tenancy = \"column\"
tenant_column = \"tenant_id\"
root = \"app.tenants\"
ignored = [\"job_queue\"]
";
/// What they write for the tables that the first inspection named.
const RULES: &str = "
shared = [\"countries\", \"currencies\"]
[sources.app.tables.'\"Audit Log\".\"Event/Entry\"']
tenant_column = '\"Tenant Id\"'
[sources.app.tables.'app.undeclared']
via = 'app.undeclared.(\"Order Tenant\", order_no) -> app.orders.(tenant_id, number)'
[sources.app.tables.'app.reactions']
via = { type = \"kind\", id = \"ref\", map = { Invoice = \"app.invoices.id\", Account = \"app.accounts.id\" } }
";

fn place_with(url: &str, section: &str) -> Place {
    let mut place = Place::new(None, vec![("TEST_DATABASE_URL".to_owned(), url.to_owned())]);
    let config = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, text + section).unwrap();
    place.envs.push(("NO_COLOR".to_owned(), "1".to_owned()));
    place
}

#[test]
fn an_inspection_leads_from_a_first_guess_to_a_whole_configuration() {
    let test = "an_inspection_leads_from_a_first_guess_to_a_whole_configuration";
    let Some(cluster) = Postgres::shared_or_skip(test) else { return };
    let url = cluster.fresh_database().unwrap();
    nasty_schema(&url).unwrap();

    let first = place_with(&url, FIRST).run(&["sources", "inspect", "app"]);
    assert_eq!(first.code, 10, "{first:?}");
    for line in [
        "  app.tenants: root by id",
        "  app.payments: via account_id -> app.accounts.id",
        "  public.countries: unclassed",
        "  app.log_lines: direct by tenant_id, 1 row of no site: in no snapshot",
        "    tables.'\"Audit Log\".\"Event/Entry\"'.tenant_column = '\"Tenant Id\"'",
        "  without views, which hold nothing of their own: app.order_totals, app.order_totals_kept",
    ] {
        assert!(first.out.contains(line), "{line} in\n{}", first.out);
    }
    assert!(first.err.contains("tables of unknown class"), "{}", first.err);

    // Everything classed, and the rows of nobody gone: nothing to mend.
    run_sql(&url, "DELETE FROM app.log_lines WHERE tenant_id IS NULL; DELETE FROM app.legacy WHERE id < 0").unwrap();
    let place = place_with(&url, &format!("{FIRST}{RULES}"));
    let whole = place.ok(&["sources", "inspect", "app", "--json"]);
    for part in [r#""table":"app.reactions""#, r#""class":"via""#, r#""missing_privileges":[]"#, r#""sites":4"#] {
        assert!(whole.out.contains(part), "{part} in\n{}", whole.out);
    }
    assert!(whole.out.lines().last().unwrap_or_default().contains(r#""event":"done""#), "{}", whole.out);
}

#[test]
fn a_role_without_privileges_is_told_the_grants_and_no_password() {
    let Some(cluster) = Postgres::shared_or_skip("a_role_without_privileges_is_told_the_grants_and_no_password") else {
        return;
    };
    let url = cluster.fresh_database().unwrap();
    nasty_schema(&url).unwrap();
    run_sql(&url, "CREATE ROLE e2e_plain LOGIN PASSWORD 's3cret'").unwrap();
    let plain = url.replace("postgres@", "e2e_plain:s3cret@");
    let said = place_with(&plain, &format!("{FIRST}{RULES}")).run(&["sources", "inspect", "app"]);
    assert_eq!(said.code, 10, "{said:?}");
    for line in [
        "  privileges that role e2e_plain lacks for a backup:",
        "      GRANT USAGE ON SCHEMA app TO e2e_plain;",
        "      ALTER ROLE e2e_plain BYPASSRLS;",
        "  privileges that role e2e_plain lacks for a restore:",
        "      GRANT SET ON PARAMETER session_replication_role TO e2e_plain;",
    ] {
        assert!(said.out.contains(line), "{line} in\n{}", said.out);
    }
    assert!(!said.out.contains("s3cret") && !said.err.contains("s3cret"), "{said:?}");
}

#[test]
fn a_wrong_table_or_server_is_told_with_a_way_out() {
    let Some(cluster) = Postgres::shared_or_skip("a_wrong_table_or_server_is_told_with_a_way_out") else { return };
    let url = cluster.fresh_database().unwrap();
    nasty_schema(&url).unwrap();
    let check = |url: &str, from: &str, to: &str, code: i32, wants: &[&str]| {
        let said = place_with(url, &FIRST.replace(from, to)).run(&["sources", "inspect", "app"]);
        assert_eq!(said.code, code, "{said:?}");
        for want in wants {
            assert!(said.err.contains(want), "{want} in\n{}", said.err);
        }
    };
    check(&url, "app.tenants", "app.tenant", 2, &["`root` names no table", "did you mean app.tenants?"]);
    check(&url, "tenant_id", "tenantid", 2, &["no table has the column", "tenant_id"]);
    let no_database = cluster.url("nowhere");
    check(&no_database, "job", "job", 10, &["cannot connect to the database", "check the database's name"]);
    check("postgres://x@127.0.0.1:1/app", "job", "job", 10, &["cannot connect", "is the server up"]);
    check("", "job", "job", 10, &["is not set: source=`app`, name=`TEST_DATABASE_URL`"]);
}
