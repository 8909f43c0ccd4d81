//! How busy a server is with others.

use std::time::{Duration, Instant};

use lifeboat_model::Faulty;
use lifeboat_source::postgres::{Server, ServerLoad};
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, run_sql};

const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for(load: &mut ServerLoad, want: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let active = load.active().unwrap();
        if active == want {
            return;
        }
        assert!(Instant::now() < until, "{active} instead of {want}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn others_at_a_statement_are_counted_and_neither_idle_ones_nor_our_own() {
    let test = "others_at_a_statement_are_counted_and_neither_idle_ones_nor_our_own";
    let Some(server) = Postgres::start_or_skip(test, &ClusterOptions::default()) else { return };
    let (url, other) = (server.fresh_database().unwrap(), server.fresh_database().unwrap());
    let mut load = ServerLoad::new(Server::new("app", &url).unwrap());
    wait_for(&mut load, 0);
    let idle = Server::new("app", &format!("{url}&application_name=shop")).unwrap().connect().unwrap();
    let mut ours = Server::new("app", &url).unwrap().connect().unwrap();
    let busy = |url: String| std::thread::spawn(move || run_sql(&url, "SELECT pg_sleep(300)"));
    std::thread::scope(|scope| {
        let own = scope.spawn(move || ours.batch_execute("SELECT pg_sleep(300)").is_err());
        let others = [busy(url.clone()), busy(other.clone()), busy(url.clone())];
        wait_for(&mut load, 3);
        run_sql(&url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
            .unwrap();
        wait_for(&mut load, 0);
        assert!(own.join().unwrap(), "it was at work until it was ended");
        assert!(others.into_iter().all(|other| other.join().unwrap().is_err()));
    });
    drop(idle);
    // What was lost is connected to anew.
    server.restart("fast").unwrap();
    assert!(load.active().is_err());
    wait_for(&mut load, 0);
}

#[test]
fn a_role_that_cannot_see_others_is_told_so() {
    let Some(server) = Postgres::shared_or_skip("a_role_that_cannot_see_others_is_told_so") else { return };
    let url = server.fresh_database().unwrap();
    let database = url.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    run_sql(&url, "DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN").unwrap();
    let mut load = ServerLoad::new(Server::new("app", &server.url_as("blind", &database)).unwrap());
    let error = load.active().unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("GRANT pg_read_all_stats TO blind"), "{error}: {hint}");
    run_sql(&url, "GRANT pg_read_all_stats TO blind").unwrap();
    load.active().unwrap();
}
