//! A role that is no superuser: it works with the documented grants, and each missing one is named.

use crate::support::{assert_restored, fleet, victim};

/// What a restoring role needs.
fn grants(role: &str, database: &str) -> Vec<String> {
    vec![
        format!("GRANT CREATE ON DATABASE {database} TO {role}"),
        format!("GRANT USAGE ON SCHEMA audit TO {role}"),
        format!("GRANT SELECT ON ALL TABLES IN SCHEMA public, audit TO {role}"),
        format!("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, audit TO {role}"),
        format!("GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public, audit TO {role}"),
        format!("ALTER ROLE {role} BYPASSRLS"),
        format!("GRANT SET ON PARAMETER session_replication_role TO {role}"),
    ]
}

#[test]
fn a_role_with_the_documented_grants_restores_and_each_missing_grant_is_named() {
    let Some(mut world) = fleet("roles") else { return };
    if world.number("SELECT current_setting('server_version_num')::int") < 150_000 {
        return; // only a superuser can set session_replication_role there
    }
    let (site, kept) = (victim(), world.back_up(&victim()));
    let database = world.text("SELECT current_database()");
    let role = format!("restorer_{database}");
    world.run(&format!("CREATE ROLE {role} LOGIN; ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE SCHEMA hidden"));
    let all = grants(&role, &database);
    let wants = [
        "GRANT CREATE ON DATABASE",
        "GRANT USAGE ON SCHEMA audit",
        "GRANT SELECT ON public.countries",
        "GRANT INSERT, UPDATE, DELETE ON public.issues",
        "GRANT SELECT, UPDATE ON SEQUENCE public.worklog_id_seq",
        "BYPASSRLS",
        "GRANT SET ON PARAMETER session_replication_role",
    ];
    for grant in &all {
        world.run(grant);
    }
    world.restorer = world.cluster.url_as(&role, &database);
    let takes_back = |grant: &str| match grant {
        grant if grant.contains("BYPASSRLS") => grant.replace("BYPASSRLS", "NOBYPASSRLS"),
        grant => grant.replacen("GRANT", "REVOKE", 1).replace(" TO ", " FROM "),
    };
    // Reading is checked by the source itself: here only what writing adds, and shared tables.
    for (grant, want) in all.iter().zip(wants) {
        let revoke = match grant {
            grant if grant.contains("GRANT SELECT ON ALL") => format!("REVOKE SELECT ON countries FROM {role}"),
            grant => takes_back(grant),
        };
        let mut target = world.target(&site);
        world.run(&revoke);
        let Err(error) = world.verify(&mut target, &kept) else { panic!("{want}") };
        let hint = lifeboat_model::Faulty::hint(&error).unwrap_or_default();
        assert!(hint.contains(want), "{want}: {error}: {hint}");
        assert!(!world.has_staging());
        world.run(&hint);
        for grant in &all {
            world.run(grant);
        }
    }
    let bystanders = world.bystanders(&site);
    world.delete_victim();
    world.run("ALTER SEQUENCE worklog_id_seq RESTART");
    let switched = world.restore(&site, &kept).unwrap();
    assert_eq!(switched.sequences.len(), 1);
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn settings_of_a_careful_administrator_do_not_matter() {
    let Some(mut world) = fleet("settings") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let database = world.text("SELECT current_database()");
    let role = format!("careful_{database}");
    world.run(&format!(
        "CREATE ROLE {role} SUPERUSER LOGIN;
         ALTER ROLE {role} SET statement_timeout = '50ms'; ALTER ROLE {role} SET lock_timeout = '1ms';
         ALTER ROLE {role} SET idle_in_transaction_session_timeout = '1ms';
         ALTER ROLE {role} SET default_transaction_read_only = on;
         ALTER ROLE {role} SET default_transaction_isolation = 'serializable';
         ALTER ROLE {role} SET datestyle = 'German'; ALTER ROLE {role} SET bytea_output = 'escape';
         ALTER ROLE {role} SET extra_float_digits = 0; ALTER ROLE {role} SET timezone = 'Asia/Tokyo';
         ALTER ROLE {role} SET search_path = 'audit'"
    ));
    world.restorer = world.cluster.url_as(&role, &database);
    let bystanders = world.bystanders(&site);
    world.delete_victim();
    world.restore(&site, &kept).unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn a_server_that_counts_no_writes_is_refused() {
    let Some(mut world) = fleet("track_counts") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let database = world.text("SELECT current_database()");
    let role = format!("blind_{database}");
    world.run(&format!("CREATE ROLE {role} SUPERUSER LOGIN; ALTER ROLE {role} SET track_counts = off"));
    world.restorer = world.cluster.url_as(&role, &database);
    let error = world.restore(&site, &kept).unwrap_err();
    assert!(error.to_string().contains("track_counts"), "{error}");
    assert!(!world.has_staging());
}
