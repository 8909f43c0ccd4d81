//! A look at bystanders' rows: each site's own, all at one moment, and nobody else's.

use std::time::Duration;

use lifeboat_model::SourceName;
use lifeboat_source::postgres::target::LiveRows;
use lifeboat_source::postgres::{PostgresSource, Tenancy};
use lifeboat_testkit::postgres::{NASTY_SITES, Postgres, own_config, own_site, run_sql};

use crate::support::{fleet, nasty, site, victim};

#[test]
fn a_look_sees_of_each_site_what_a_restore_would_compare_with_and_all_at_one_moment() {
    let Some(world) = nasty("a_look_sees_of_each_site") else { return };
    let source = PostgresSource::new(SourceName::new("app").unwrap(), world.config.clone()).unwrap();
    let see = |look: &lifeboat_source::postgres::RowsLook<'_>| -> Vec<LiveRows> {
        NASTY_SITES.iter().map(|name| look.rows_of(&site(name), None).unwrap()).collect()
    };
    let first = source.look().unwrap();
    let before = see(&first);
    for (name, seen) in NASTY_SITES.iter().zip(&before) {
        assert_eq!(*seen, world.target(&site(name)).live().unwrap(), "{name}");
    }
    world.run(
        "UPDATE app.orders SET note = note || ' changed' WHERE tenant_id = (SELECT min(tenant_id) FROM app.orders)",
    );
    assert_eq!(see(&first), before, "the moment stays");
    let then = source.look().unwrap();
    let (was, is) = (first.moment().unwrap().visibility().unwrap(), then.moment().unwrap().visibility().unwrap());
    assert!(is.xmax > was.xmax);
    let differ = see(&then).iter().zip(&before).filter(|(now, before)| now != before).count();
    assert_eq!(differ, 1, "one site was written to");
    assert!(!then.rows_of(&site("nobody"), None).unwrap().is_present);
}

#[test]
fn a_look_at_a_schema_of_a_site_s_own_tells_what_was_written_in_it_and_that_it_is_gone() {
    let Some(cluster) = Postgres::shared_or_skip("a_look_at_a_schema") else { return };
    let url = cluster.fresh_database().unwrap();
    for name in ["t_acme", "t_globex"] {
        run_sql(&url, &format!("CREATE SCHEMA {name}")).unwrap();
        own_site(&url, name, 20).unwrap();
    }
    let config = own_config(&url, Tenancy::Schema, "t_{site}");
    let source = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
    let see = |name: &str| source.look().unwrap().rows_of(&site(name), None).unwrap();
    let (acme, globex) = (see("acme"), see("globex"));
    assert!(acme.is_present && acme.is_own && acme.tables.iter().any(|table| table.rows == 20), "{acme:?}");
    assert!(source.look().unwrap().moment().is_some());
    run_sql(&url, "UPDATE t_acme.users SET settings = '[]' WHERE id = (SELECT max(id) FROM t_acme.users)").unwrap();
    assert_ne!(see("acme"), acme);
    assert_eq!(see("globex"), globex);
    run_sql(&url, "DROP SCHEMA t_acme CASCADE").unwrap();
    assert!(!see("acme").is_present);
    assert_eq!(see("globex"), globex);
}

#[test]
fn a_look_gives_up_a_site_that_takes_too_long_and_goes_on_with_the_others() {
    let Some(world) = fleet("a_look_gives_up_a_site") else { return };
    world.run(
        "INSERT INTO worklog (site_id, issue_id, seconds) SELECT site_id, id, n FROM issues, generate_series(1, 20000) n \
         WHERE id = (SELECT min(id) FROM issues WHERE site_id = 'site-00002')",
    );
    let source = PostgresSource::new(SourceName::new("app").unwrap(), world.config.clone()).unwrap();
    let look = source.look().unwrap();
    let error = look.rows_of(&victim(), Some(Duration::from_millis(1))).unwrap_err().to_string();
    assert!(error.contains("statement timeout"), "{error}");
    // With time enough, also after that; what was limited once is limited no more.
    assert!(look.rows_of(&site("site-00001"), Some(Duration::from_secs(60))).unwrap().is_present);
    assert_eq!(look.rows_of(&victim(), None).unwrap(), world.target(&victim()).live().unwrap());
}
