//! The S3 store against a real server.

use std::sync::Arc;

use lifeboat_store::{Address, Error, OpenOptions, Opened, RetryPolicy, S3Options, S3Store, Store, open, probe};
use lifeboat_testkit::conformance::{self, Order, RACERS, name, pattern};
use lifeboat_testkit::s3_server::S3Server;

/// A store in a new empty prefix, without wrappers.
pub async fn bare(server: &S3Server, options: S3Options) -> S3Store {
    let Ok(Address::S3(address)) = Address::parse(&server.fresh_url().unwrap()) else { panic!("an S3 address") };
    S3Store::open(address, options).await.unwrap()
}

async fn wrapped(server: &S3Server) -> Opened {
    let options = OpenOptions { s3: server.options(), ..OpenOptions::default() };
    open(&server.fresh_url().unwrap(), &options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_every_promise() {
    let Some(server) = S3Server::shared_or_skip("s3_keeps_every_promise") else { return };
    conformance::run(Arc::new(bare(server, server.options()).await), Order::BytesOrSegments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_opened_by_its_url_works_and_is_counted() {
    let Some(server) = S3Server::shared_or_skip("s3_opened_by_its_url_works_and_is_counted") else { return };
    let Opened { store, meters } = wrapped(server).await;
    meters.start_recording();
    store.create(&name("a/b"), pattern(1, 1000)).await.unwrap();
    assert_eq!(store.get(&name("a/b")).await.unwrap(), pattern(1, 1000));
    assert_eq!(store.get_range(&name("a/b"), 10..20).await.unwrap(), pattern(1, 1000).slice(10..20));
    assert_eq!(store.list("a/", None, 10).await.unwrap().len(), 1);
    store.delete(&name("a/b")).await.unwrap();
    let used = meters.snapshot();
    assert_eq!((used.requests(), used.failures, used.bytes_in, used.bytes_out), (5, 0, 1010, 1000));
    assert!(meters.take_recording().iter().all(|(_, name)| name.starts_with("a/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_create_is_conditional_and_exact() {
    let Some(server) = S3Server::shared_or_skip("a_multipart_create_is_conditional_and_exact") else { return };
    // Everything in parts, the last one short.
    let options = S3Options { multipart_from_bytes: 0, part_bytes: 5 << 20, ..server.options() };
    let store = bare(server, options).await;
    for len in [1, (5 << 20) - 1, 5 << 20, (5 << 20) + 1, (15 << 20) + 3] {
        let (object, body) = (name(&format!("parts/{len}")), pattern(len as u8, len));
        store.create(&object, body.clone()).await.unwrap();
        assert!(store.get(&object).await.unwrap() == body, "{len} bytes came back otherwise");
        let again = store.create(&object, body).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{len}: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_multipart_creates_leave_one_whole_body() {
    let Some(server) = S3Server::shared_or_skip("racing_multipart_creates_leave_one_whole_body") else { return };
    let store = Arc::new(bare(server, S3Options { multipart_from_bytes: 0, ..server.options() }).await);
    let object = name("parts/race");
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (store, object) = (Arc::clone(&store), object.clone());
            tokio::spawn(async move { store.create(&object, pattern(racer as u8, 1000 + racer)).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (racer, outcome) in racers.into_iter().enumerate() {
        match outcome.await.unwrap() {
            Ok(()) => winners.push(racer),
            Err(Error::AlreadyExists { .. } | Error::Unavailable { .. }) => {}
            Err(other) => panic!("racer {racer}: {other}"),
        }
    }
    // Not "exactly one": this server checks the condition, but not in one step with completing.
    let body = store.get(&object).await.unwrap();
    let is_whole = winners.iter().any(|racer| body == pattern(*racer as u8, 1000 + racer));
    assert!(is_whole, "{} bytes are those of none of the winners {winners:?}", body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_creates_through_the_retry_are_decided_without_doubt() {
    let Some(server) = S3Server::shared_or_skip("racing_creates_through_the_retry_are_decided_without_doubt") else {
        return;
    };
    let opened = wrapped(server).await;
    for round in 0..2 {
        let object = name(&format!("race/{round}"));
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (store, object) = (Arc::clone(&opened.store), object.clone());
                tokio::spawn(async move { store.create(&object, pattern(racer as u8, 1000 + racer)).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (racer, outcome) in racers.into_iter().enumerate() {
            match outcome.await.unwrap() {
                Ok(()) => winners.push(racer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("racer {racer} is left in doubt: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let body = opened.store.get(&object).await.unwrap();
        assert_eq!(body, pattern(winners[0] as u8, 1000 + winners[0]), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_passes_the_probe() {
    let Some(server) = S3Server::shared_or_skip("a_real_server_passes_the_probe") else { return };
    let opened = wrapped(server).await;
    probe(opened.store.as_ref()).await.unwrap();
    assert!(opened.store.list("", None, 10).await.unwrap().is_empty());
    let used = opened.meters.snapshot();
    assert!(used.requests() < 100, "{used:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_of_one_bucket_do_not_see_each_other() {
    let Some(server) = S3Server::shared_or_skip("prefixes_of_one_bucket_do_not_see_each_other") else { return };
    let (one, two) = (bare(server, server.options()).await, bare(server, server.options()).await);
    one.create(&name("a"), pattern(1, 10)).await.unwrap();
    assert!(matches!(two.get(&name("a")).await, Err(Error::NotFound { .. })));
    assert!(two.list("", None, 10).await.unwrap().is_empty());
    assert_eq!(one.list("", None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_killed_server_ends_with_a_clear_error() {
    let Some(_) = S3Server::shared_or_skip("a_killed_server_ends_with_a_clear_error") else { return };
    let server = S3Server::start().unwrap();
    let retry = RetryPolicy { attempts_max: 2, ..RetryPolicy::default() };
    let options = OpenOptions { s3: server.options(), retry, ..OpenOptions::default() };
    let opened = open(&server.fresh_url().unwrap(), &options).await.unwrap();
    opened.store.create(&name("a"), pattern(1, 10)).await.unwrap();
    drop(server);
    let error = opened.store.get(&name("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("object=`a`"), "{error}");
}
