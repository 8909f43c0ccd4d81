//! Checks of a site that is back, where what they ask never answers.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use lifeboat_engine::{AnySource, Around, Ask, Error, OwnCheck};
use lifeboat_model::{Check, SiteId, SourceName};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_testkit::postgres::pooled_config;
use lifeboat_testkit::world::engine_in_memory;

use crate::fake::PATIENCE;

pub fn app() -> SourceName {
    SourceName::new("app").unwrap()
}

/// Asks by SQL: a server takes the connection, and says nothing.
fn prove(timeout: Duration, stop: &dyn Fn() -> bool) -> Result<Vec<Check>, Error> {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/none?sslmode=disable", mute.local_addr().unwrap());
    let source = PostgresSource::new(app(), pooled_config(&url)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let engine = runtime.block_on(engine_in_memory(vec![AnySource::Postgres(Box::new(source))]));
    let check = |name: &str, ask| OwnCheck { name: name.to_owned(), ask, timeout };
    let sql = |source| Ask::Sql { source, sql: "SELECT true".to_owned(), expect: None };
    let checks = vec![
        check("mute", sql(app())),
        check("unknown", sql(SourceName::new("other").unwrap())),
        check("command", Ask::Command(vec!["true".to_owned()])),
    ];
    let around = Around { checks, ..Around::default() };
    around.prove(&engine, runtime.handle(), &SiteId::new("acme").unwrap(), stop)
}

#[test]
fn a_database_that_never_answers_is_a_failed_check_and_the_others_are_asked() {
    let began = Instant::now();
    let checks = prove(Duration::from_secs(1), &|| false).unwrap();
    assert_eq!(checks.iter().map(|check| check.passed).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((checks[0].name.as_str(), checks[0].detail.as_str()), ("check: mute", "no answer within 1 s"));
    assert!(checks[1].detail.contains("source=`other`"), "{checks:?}");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn who_waits_for_a_database_can_be_stopped() {
    assert!(matches!(prove(Duration::from_secs(3_600), &|| true), Err(Error::Cancelled)));
}
