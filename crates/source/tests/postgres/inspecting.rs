//! An inspection says all that an operator should know.

use std::collections::BTreeMap;

use lifeboat_source::postgres::{Inspection, Need, Server, Tenancy};
use lifeboat_testkit::postgres::{Postgres, nasty_config, own_config, run_sql};

use crate::support::{catalogue, name, nasty};

fn inspect(url: &str, change: impl FnOnce(&mut lifeboat_source::postgres::PostgresConfig)) -> Inspection {
    let mut config = nasty_config(url);
    change(&mut config);
    Inspection::of(&Server::new("app", url).unwrap(), &config).unwrap()
}

#[test]
fn rows_of_nobody_are_counted_and_triggers_that_fire_are_named() {
    let Some(url) = nasty("rows_of_nobody_are_counted_and_triggers_that_fire_are_named") else { return };
    let found = inspect(&url, |_| {});
    let ownerless = found.tables.iter().filter_map(|table| Some((table.name.as_str(), table.ownerless_rows?)));
    let some: BTreeMap<&str, u64> = ownerless.filter(|(_, rows)| *rows > 0).collect();
    assert_eq!(some, BTreeMap::from([("app.legacy", 1), ("app.log_lines", 1)]));
    let of = |wanted: &str| found.tables.iter().find(|table| table.name == name(wanted)).unwrap();
    assert_eq!(of("app.invoices").notes, ["fires in a restore too: notices"]);
    assert_eq!(of("app.log_lines").notes, ["has no primary key: rows are told apart by all their values"]);
    assert_eq!((of("app.measurements").partitions, of("app.orders").partitions), (4, 0));
    assert!(found.tables.iter().all(|table| table.class.word() != "partition"));
    assert_eq!((found.sites, found.views.len(), found.missing.len()), (Some(4), 2, 0));
    assert!(found.suggested_lines.is_empty());
}

#[test]
fn what_is_unclassed_or_may_not_be_read_is_said_and_hides_nothing_else() {
    let test = "what_is_unclassed_or_may_not_be_read_is_said_and_hides_nothing_else";
    let Some(url) = nasty(test) else { return };
    let found = inspect(&url, |config| {
        config.shared.clear();
        config.tables.clear();
    });
    let lines = found.suggested_lines.join("\n");
    for line in [
        "shared = [\"app.reactions\", \"app.undeclared\", \"public.countries\", \"public.currencies\"]",
        "tables.'\"Audit Log\".\"Event/Entry\"'.tenant_column = '\"Tenant Id\"'",
    ] {
        assert!(lines.contains(line), "{line} in\n{lines}");
    }
    let role = format!("inspector_{}", catalogue(&url).server.database);
    run_sql(&url, &format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA app TO {role}")).unwrap();
    let found = inspect(&url.replace("postgres@", &format!("{role}@")), |_| {});
    assert_eq!(found.sites, None);
    assert!(found.missing.iter().any(|missing| missing.needed_for == Need::Backup));
    assert!(found.tables.iter().all(|table| table.ownerless_rows.is_none()));
}

#[test]
fn whose_member_a_role_must_be_to_make_a_dropped_schema_again_is_said() {
    let Some(server) = Postgres::shared_or_skip("whose_member_a_role_must_be") else { return };
    let url = server.fresh_database().unwrap();
    let database = catalogue(&url).server.database;
    let (owner, role) = (format!("owner_{database}"), format!("restorer_{database}"));
    run_sql(
        &url,
        &format!(
            "CREATE ROLE {owner}; CREATE ROLE {role} LOGIN BYPASSRLS; CREATE SCHEMA acme;
             CREATE TABLE acme.t (x int PRIMARY KEY); ALTER TABLE acme.t OWNER TO {owner};
             ALTER SCHEMA acme OWNER TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON acme.t TO {role};
             GRANT CREATE ON DATABASE {database} TO {role}; GRANT SET ON PARAMETER session_replication_role TO {role}"
        ),
    )
    .unwrap();
    let look = || {
        let config = own_config(&url, Tenancy::Schema, "{site}");
        let server = Server::new("app", &server.url_as(&role, &database)).unwrap();
        let found = Inspection::of(&server, &config).unwrap();
        found.missing.into_iter().map(|missing| (missing.needed_for, missing.statement)).collect::<Vec<_>>()
    };
    assert_eq!(look(), [(Need::Restore, format!("GRANT {owner} TO {role};"))]);
    run_sql(&url, &format!("GRANT {owner} TO {role}")).unwrap();
    assert_eq!(look(), []);
}
