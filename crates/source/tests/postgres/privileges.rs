//! A role that lacks something is told what, and how to mend it.

use lifeboat_source::postgres::{Catalogue, MissingPrivilege, Need, classify, missing_privileges};
use lifeboat_testkit::postgres::{Postgres, nasty_config, run_sql};

use crate::support::{catalogue, connect, nasty};

fn missing(url: &str) -> Vec<MissingPrivilege> {
    let mut session = connect(url);
    let catalogue = Catalogue::load(&mut session).unwrap();
    let classes = classify("app", &catalogue, &nasty_config(url)).unwrap();
    missing_privileges(&mut session, &catalogue, &classes).unwrap()
}

/// Reads every row of every table of sites, and the sequences.
fn read_all(url: &str) {
    let mut session = connect(url);
    let catalogue = Catalogue::load(&mut session).unwrap();
    let classes = classify("app", &catalogue, &nasty_config(url)).unwrap();
    for table in catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name)) {
        let tenant = classes.tenant_of(&table.name);
        let query = format!("SELECT {}, t::text FROM {} t {}", tenant.expression, table.from_item(), tenant.joins);
        assert!(!session.simple_query(&query).unwrap().is_empty(), "{}", table.name);
    }
}

#[test]
fn the_statements_named_are_enough_to_back_up_and_to_restore() {
    let Some(url) = nasty("the_statements_named_are_enough_to_back_up_and_to_restore") else { return };
    assert_eq!(missing(&url), [], "a superuser lacks nothing");
    let role = format!("\"plain {}\"", catalogue(&url).server.database);
    run_sql(&url, &format!("CREATE ROLE {role} LOGIN")).unwrap();
    let plain = url.replace("postgres@", &format!("{}@", role.trim_matches('"').replace(' ', "%20")));
    let first = missing(&plain);
    let says = |need: Need, part: &str| {
        let is_so = |missing: &&MissingPrivilege| missing.needed_for == need && missing.statement.contains(part);
        assert!(first.iter().any(|missing| is_so(&missing)), "{part}: {first:#?}");
    };
    says(Need::Backup, "GRANT USAGE ON SCHEMA app TO \"plain ");
    says(Need::Backup, "GRANT USAGE ON SCHEMA \"Audit Log\"");
    says(Need::Backup, "GRANT SELECT ON \"Audit Log\".\"Event/Entry\", \"Audit Log\".\"de\"\"tail.%2F\"");
    says(Need::Backup, "GRANT SELECT ON public.countries");
    says(Need::Backup, "BYPASSRLS");
    says(Need::Backup, "GRANT SELECT ON SEQUENCE app.accounts_id_seq");
    says(Need::Restore, "GRANT INSERT, UPDATE, DELETE ON app.accounts");
    says(Need::Restore, "GRANT CREATE ON DATABASE");
    assert!(!first.iter().any(|missing| missing.statement.contains("job_queue")), "ignored");
    // What a backup needs comes first, and is enough for one.
    let (backup, restore): (Vec<_>, Vec<_>) = first.into_iter().partition(|missing| missing.needed_for == Need::Backup);
    for missing in &backup {
        run_sql(&url, &missing.statement).unwrap();
    }
    assert_eq!(missing(&plain), restore);
    read_all(&plain);
    for missing in &restore {
        run_sql(&url, &missing.statement).unwrap();
    }
    assert_eq!(missing(&plain), []);
}

#[test]
fn the_script_of_the_roles_page_makes_roles_that_lack_nothing() {
    let test = "the_script_of_the_roles_page_makes_roles_that_lack_nothing";
    let Some(url) = nasty(test) else { return };
    let Some(cluster) = Postgres::shared_or_skip(test) else { return };
    let server = catalogue(&url).server;
    if server.version < 150_000 {
        return; // where only a superuser may restore: the script says that it is for 15 and newer
    }
    let database = server.database;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/postgres-roles.sql");
    let (backup, restore) = (format!("b_{database}"), format!("r_{database}"));
    let run = || {
        let mut psql = std::process::Command::new(cluster.program("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", &format!("backup={backup}")]);
        psql.args(["-v", &format!("restore={restore}"), "-f", script, "-d", &url]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run();
    run(); // again, as when tables were added
    let only_backs_up = missing(&cluster.url_as(&backup, &database));
    assert!(only_backs_up.iter().all(|missing| missing.needed_for == Need::Restore), "{only_backs_up:#?}");
    assert!(!only_backs_up.is_empty());
    read_all(&cluster.url_as(&backup, &database));
    assert_eq!(missing(&cluster.url_as(&restore, &database)), []);
}
