//! Roles that are no superusers, through the built binary: the documented script makes them, and each
//! privilege that is missing alone is named with the statement that grants it.

use std::process::Command;

use lifeboat_testkit::postgres::{Postgres, query_text};

use crate::killed::DAMAGE;
use crate::shop::Shop;

const RESTORE: [&str; 3] = ["restore", "site-00002", "--yes"];

/// A fleet, and the two roles of the script; `None`: before 15 there are no such roles.
fn shop(server: &Postgres, test: &str) -> Option<(Shop, String, String)> {
    let version = query_text(&server.url("postgres"), "SHOW server_version_num").unwrap()[0][0].clone();
    if version.is_none_or(|version| version.as_str() < "150000") {
        eprintln!("SKIPPED (1 so far): {test}: only superusers may set session_replication_role before 15");
        return None;
    }
    let shop = Shop::fleet(server, 2, 50);
    let database = shop.text("SELECT current_database()");
    let (backup, restore) = (format!("backup_{database}"), format!("restore_{database}"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/postgres-roles.sql");
    let mut psql = Command::new(server.program("psql"));
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-v", &format!("backup={backup}"), "-v", &format!("restore={restore}")]);
    let output = psql.args(["-f", script, &shop.url]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some((shop, server.url_as(&backup, &database), server.url_as(&restore, &database)))
}

#[test]
fn the_documented_roles_back_up_and_restore_without_a_superuser() {
    let Some(server) = Postgres::shared_or_skip("the_documented_roles") else { return };
    let Some((shop, backup, restore)) = shop(server, "the_documented_roles") else { return };
    shop.sql("ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY");
    shop.run_at(&backup, &["backup", "--all"]).check(0, &[]);
    shop.run_at(&restore, &["sources", "inspect", "app"]).check(0, &[]);
    // The role that only reads is told so before the night in which it matters.
    shop.run_at(&backup, &["sources", "inspect", "app"]).check(10, &["privileges that a restore needs are missing"]);
    let whole = shop.picture();
    shop.sql(DAMAGE);
    let damaged = shop.picture();
    shop.run_at(&backup, &RESTORE).check(10, &["GRANT"]);
    assert_eq!(shop.picture(), damaged);
    shop.run_at(&restore, &RESTORE).check(0, &[]);
    assert_eq!((shop.picture(), shop.staging()), (whole, String::new()));
}

#[test]
fn each_missing_privilege_is_named_with_the_statement_that_mends_it() {
    let Some(server) = Postgres::shared_or_skip("each_missing_privilege") else { return };
    let Some((shop, _, restore)) = shop(server, "each_missing_privilege") else { return };
    shop.ok(&["backup", "--all"]);
    let database = shop.text("SELECT current_database()");
    let role = format!("restore_{database}");
    let plain = format!(
        "REVOKE pg_read_all_data, pg_write_all_data FROM {role};
         GRANT USAGE ON SCHEMA public, audit TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, audit TO {role};
         GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public, audit TO {role};
         ALTER TABLE users ENABLE ROW LEVEL SECURITY"
    );
    shop.sql(&plain);
    let cases = [
        ("REVOKE SELECT ON issues", "GRANT SELECT ON public.issues"),
        ("REVOKE INSERT ON issues", "GRANT INSERT ON public.issues"),
        ("REVOKE UPDATE ON issues", "GRANT UPDATE ON public.issues"),
        ("REVOKE DELETE ON issues", "GRANT DELETE ON public.issues"),
        ("REVOKE SELECT ON countries", "GRANT SELECT ON public.countries"),
        ("REVOKE USAGE ON SCHEMA audit", "GRANT USAGE ON SCHEMA audit"),
        ("REVOKE UPDATE ON SEQUENCE worklog_id_seq", "ON SEQUENCE public.worklog_id_seq"),
        ("REVOKE CREATE ON DATABASE :db", "GRANT CREATE ON DATABASE"),
        ("REVOKE SET ON PARAMETER session_replication_role", "GRANT SET ON PARAMETER session_replication_role"),
        ("ALTER ROLE :role NOBYPASSRLS", "BYPASSRLS"),
    ];
    shop.sql(DAMAGE);
    let damaged = shop.picture();
    for (change, grant) in cases {
        let change = change.replace(":db", &database).replace(":role", &role);
        let from = if change.starts_with("REVOKE") { format!(" FROM {role}") } else { String::new() };
        shop.sql(&format!("{change}{from}"));
        for args in [&RESTORE[..], &["sources", "inspect", "app"]] {
            let said = shop.run_at(&restore, args);
            assert_eq!(said.code, 10, "{change}: {args:?}: {said:?}");
            // What cannot even be looked at is refused by the first look, which names who knows.
            let is_sent_on = args[0] == "restore" && said.err.contains("`lifeboat sources inspect` prints the GRANT");
            let is_named = format!("{}{}", said.out, said.err).contains(grant);
            assert!(is_named || is_sent_on, "{change}: {args:?}: {grant} in {said:?}");
        }
        assert_eq!((shop.picture(), shop.staging()), (damaged.clone(), String::new()), "{change}");
        shop.sql(&format!(
            "{plain}; GRANT CREATE ON DATABASE {database} TO {role}; ALTER ROLE {role} BYPASSRLS;
             GRANT SET ON PARAMETER session_replication_role TO {role}"
        ));
    }
    shop.run_at(&restore, &RESTORE).check(0, &[]);
}
