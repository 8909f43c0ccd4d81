//! The one suite that every [`Store`] passes.
//!
//! Each check works below a prefix of its own and panics with what was promised. The store given
//! to [`run`] is empty.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use lifeboat_model::Timestamp;
use lifeboat_store::{Error, Listed, ObjectName, Store};

/// Racing creators of the last check.
pub const RACERS: usize = 16;

/// How the store sorts names where one continues another's segment by `-` or `.`, which sort
/// before `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By the bytes of whole names: `a-b`, `a/b`.
    Bytes,
    /// That, or segment by segment (`a/b`, `a-b`), as servers do that keep directories.
    BytesOrSegments,
}

/// Runs every check, one after the other.
pub async fn run(store: Arc<dyn Store>, order: Order) {
    an_empty_store_lists_nothing(&store).await;
    an_object_is_created_once(&store).await;
    a_deleted_object_is_gone(&store).await;
    an_empty_object_is_an_object(&store).await;
    every_allowed_name_is_kept(&store).await;
    ranges_are_exact_or_refused(&store).await;
    what_is_held_is_compared_whole(&store).await;
    listings_page_in_one_order(&store, order).await;
    long_listings_are_whole(&store).await;
    a_large_object_is_kept(&store).await;
    one_of_racing_creators_wins(&store).await;
    probing_leaves_nothing_behind(&store).await;
}

pub fn name(text: &str) -> ObjectName {
    ObjectName::new(text).expect("a name written in a test")
}

/// Bytes that differ from place to place and from seed to seed. The pattern's period divides no
/// size of a part or a page, so that bytes in another part's place show.
pub fn pattern(seed: u8, len: usize) -> Bytes {
    const PERIOD: usize = 65_537;
    let step = |at: usize| (at as u32).wrapping_mul(2_654_435_761).rotate_left(13) as u8 ^ seed;
    let period: Vec<u8> = (0..PERIOD.min(len)).map(step).collect();
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend_from_slice(&period[..PERIOD.min(len - bytes.len())]);
    }
    bytes.into()
}

async fn create(store: &Arc<dyn Store>, text: &str, body: &Bytes) {
    store.create(&name(text), body.clone()).await.unwrap_or_else(|error| panic!("create {text}: {error}"));
}

async fn sizes(store: &Arc<dyn Store>, prefix: &str) -> Vec<(ObjectName, u64)> {
    let found = store.list(prefix, None, 10).await.expect("a list");
    found.into_iter().map(|listed| (listed.name, listed.len)).collect()
}

async fn names(store: &Arc<dyn Store>, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(name);
    let found = store.list(prefix, after.as_ref(), limit).await;
    let found = found.unwrap_or_else(|error| panic!("list {prefix}: {error}"));
    found.into_iter().map(|listed| listed.name.to_string()).collect()
}

async fn an_empty_store_lists_nothing(store: &Arc<dyn Store>) {
    assert!(names(store, "", None, 10).await.is_empty());
    assert!(names(store, "sites/", None, 10).await.is_empty());
    assert!(matches!(store.get(&name("sites/none")).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.get_range(&name("sites/none"), 0..1).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.get_range(&name("sites/none"), 0..0).await, Err(Error::NotFound { .. })));
}

async fn an_object_is_created_once(store: &Arc<dyn Store>) {
    let (first, second) = (pattern(1, 1000), pattern(2, 2000));
    create(store, "once/a", &first).await;
    let again = store.create(&name("once/a"), second).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "a second create: {again:?}");
    let again = store.create(&name("once/a"), first.clone()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "a second create of the same bytes: {again:?}");
    assert_eq!(store.get(&name("once/a")).await.expect("it is there"), first);
}

async fn a_deleted_object_is_gone(store: &Arc<dyn Store>) {
    create(store, "delete/a", &pattern(3, 10)).await;
    store.delete(&name("delete/a")).await.expect("a delete");
    store.delete(&name("delete/a")).await.expect("a delete of what is gone");
    store.delete(&name("delete/in/no/directory")).await.expect("a delete of what never was");
    assert!(matches!(store.get(&name("delete/a")).await, Err(Error::NotFound { .. })));
    assert!(names(store, "delete/", None, 10).await.is_empty());
    create(store, "delete/a", &pattern(4, 10)).await;
    assert_eq!(store.get(&name("delete/a")).await.expect("created anew"), pattern(4, 10));
}

async fn an_empty_object_is_an_object(store: &Arc<dyn Store>) {
    create(store, "empty/a", &Bytes::new()).await;
    assert_eq!(store.get(&name("empty/a")).await.expect("it is there"), Bytes::new());
    assert_eq!(store.get_range(&name("empty/a"), 0..0).await.expect("an empty range"), Bytes::new());
    let beyond = store.get_range(&name("empty/a"), 0..1).await;
    assert!(matches!(beyond, Err(Error::Truncated { wanted: 1, len: 0, .. })), "{beyond:?}");
    assert_eq!(sizes(store, "empty/").await, [(name("empty/a"), 0)]);
    let again = store.create(&name("empty/a"), Bytes::new()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
}

async fn every_allowed_name_is_kept(store: &Arc<dyn Store>) {
    let long = "l".repeat(255);
    let deep = vec!["d"; 30].join("/");
    let segments =
        ["abcdefghijklmnopqrstuvwxyz0123456789", "._-", "-", "_", "...", "a..b", ".hidden", "tmp", &long, &deep];
    let mut all: Vec<String> = segments.iter().map(|segment| format!("names/{segment}")).collect();
    for (seed, text) in all.iter().enumerate() {
        create(store, text, &pattern(seed as u8, 64)).await;
    }
    for (seed, text) in all.iter().enumerate() {
        let body = store.get(&name(text)).await.unwrap_or_else(|error| panic!("get {text}: {error}"));
        assert_eq!(body, pattern(seed as u8, 64), "{text}");
    }
    all.sort();
    assert_eq!(names(store, "names/", None, 100).await, all);
}

async fn ranges_are_exact_or_refused(store: &Arc<dyn Store>) {
    let body = pattern(5, 100_000);
    create(store, "range/a", &body).await;
    let object = name("range/a");
    for range in [0..1, 0..100_000, 1..2, 4095..4097, 65_535..65_537, 99_999..100_000, 500..500, 100_000..100_000] {
        let want = body.slice(range.start as usize..range.end as usize);
        let got = store.get_range(&object, range.clone()).await;
        assert_eq!(got.unwrap_or_else(|error| panic!("{range:?}: {error}")), want, "{range:?}");
    }
    for range in [0..100_001, 99_999..100_001, 100_000..100_001, 200_000..300_000, 200_000..200_000] {
        match store.get_range(&object, range.clone()).await {
            Err(Error::Truncated { wanted, len, .. }) => assert_eq!((wanted, len), (range.end, 100_000), "{range:?}"),
            other => panic!("a range beyond the end: {range:?}: {other:?}"),
        }
    }
}

/// Names by their bytes.
const ORDERED: [&str; 9] =
    ["list/a", "list/b-c", "list/b.c", "list/b/a", "list/b/c/d", "list/b/d", "list/b0", "list/c/a", "list/z"];

async fn what_is_held_is_compared_whole(store: &Arc<dyn Store>) {
    // Longer than what a store may compare at a time, and not a multiple of it.
    let body = pattern(9, (2 << 20) + 5);
    create(store, "held/a", &body).await;
    create(store, "held/empty", &Bytes::new()).await;
    let changed = |at: usize| {
        let mut other = body.to_vec();
        other[at] ^= 1;
        Bytes::from(other)
    };
    let longer: Bytes = [&body[..], b"x"].concat().into();
    let (first, last) = (body.slice(..1 << 20), body.len() - 1);
    for (object, claimed, want) in [
        ("held/a", body.clone(), true),
        ("held/a", changed(0), false),
        ("held/a", changed(1 << 20), false),
        ("held/a", changed(last), false),
        ("held/a", first, false),
        ("held/a", longer, false),
        ("held/a", Bytes::new(), false),
        ("held/empty", Bytes::new(), true),
        ("held/empty", body.clone(), false),
    ] {
        let held = store.holds(&name(object), &claimed).await.expect("a comparison");
        assert_eq!(held, want, "{object} and {} bytes", claimed.len());
    }
    for claimed in [body.clone(), Bytes::new()] {
        let missing = store.holds(&name("held/missing"), &claimed).await;
        assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    }
}

async fn listings_page_in_one_order(store: &Arc<dyn Store>, order: Order) {
    for text in ORDERED.iter().rev() {
        create(store, text, &Bytes::from_static(b"12345")).await;
    }
    // Not below the prefix, whichever way one looks at it.
    create(store, "list-beside/a", &Bytes::new()).await;
    create(store, "lis", &Bytes::new()).await;
    let mut by_segments = ORDERED;
    by_segments.sort_by_key(|text| text.split('/').collect::<Vec<_>>());
    let listed = names(store, "list/", None, 100).await;
    let is_allowed = listed == ORDERED || order == Order::BytesOrSegments && listed == by_segments;
    assert!(is_allowed, "{order:?}: {listed:?}");
    for limit in 1..=ORDERED.len() {
        let mut paged: Vec<String> = Vec::new();
        loop {
            let page = names(store, "list/", paged.last().map(String::as_str), limit).await;
            assert!(page.len() <= limit, "limit {limit}: {page:?}");
            if page.is_empty() {
                break;
            }
            paged.extend(page);
            assert!(paged.len() <= ORDERED.len(), "limit {limit}: {paged:?}");
        }
        assert_eq!(paged, listed, "limit {limit}");
    }
    assert_eq!(names(store, "list/b/", None, 100).await, ORDERED[3..6]);
    assert_eq!(names(store, "list/b/", Some("list/b/a"), 1).await, ["list/b/c/d"]);
    // Names that are not there themselves are places to begin after all the same.
    assert_eq!(names(store, "list/", Some("list/b/b"), 2).await, ["list/b/c/d", "list/b/d"]);
    assert_eq!(names(store, "list/b/", Some("a"), 1).await, ["list/b/a"]);
    assert!(names(store, "list/b/", Some("list/c"), 10).await.is_empty());
    assert!(names(store, "list/", None, 0).await.is_empty());
    let found = store.list("list/", None, 1).await.expect("a list");
    let [Listed { name: first, len: 5, modified: Some(modified) }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*first, name("list/a"));
    // It was made just now; some stores round to the second.
    let age = Timestamp::now().since(*modified).max(modified.since(Timestamp::now()));
    assert!(age < Duration::from_secs(600), "created {modified} by the store's clock");
}

async fn long_listings_are_whole(store: &Arc<dyn Store>) {
    // More than one answer of S3 holds.
    let all: Vec<String> = (0..1100).map(|number| format!("long/{number:05}")).collect();
    let empty = Bytes::new();
    for some in all.chunks(32) {
        join_all(some.iter().map(|text| create(store, text, &empty))).await;
    }
    assert_eq!(names(store, "long/", None, 5000).await, all);
    assert_eq!(names(store, "long/", Some("long/00000"), 1050).await, all[1..1051]);
}

async fn a_large_object_is_kept(store: &Arc<dyn Store>) {
    let body = pattern(6, 100 << 20);
    create(store, "large/a", &body).await;
    let again = store.create(&name("large/a"), body.clone()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "a second create of a large object: {again:?}");
    assert!(store.get(&name("large/a")).await.expect("it is there") == body, "other bytes");
    let range = (50 << 20) - 7..(50 << 20) + 9;
    let part = store.get_range(&name("large/a"), range.start as u64..range.end as u64).await.expect("a range");
    assert_eq!(part, body.slice(range));
    store.delete(&name("large/a")).await.expect("a delete");
}

/// Also run with sixteen processes where the store is a directory.
pub async fn one_of_racing_creators_wins(store: &Arc<dyn Store>) {
    for round in 0..4 {
        let object = name(&format!("race/{round}/new/directory/a"));
        // Different lengths, so that a mixture would show.
        let bodies: Vec<Bytes> = (0..RACERS).map(|racer| pattern(racer as u8, 10_000 + racer)).collect();
        let racers = bodies.iter().map(|body| {
            let (store, object, body) = (Arc::clone(store), object.clone(), body.clone());
            tokio::spawn(async move { store.create(&object, body).await })
        });
        let outcomes = join_all(racers.collect::<Vec<_>>()).await;
        let mut winners = Vec::new();
        for (racer, outcome) in outcomes.into_iter().enumerate() {
            match outcome.expect("no panic") {
                Ok(()) => winners.push(racer),
                Err(Error::AlreadyExists { .. }) => {}
                // S3 answers 409 to some of a tight race: nothing is known, and nothing was written.
                Err(Error::Unavailable { .. }) => {}
                Err(other) => panic!("racer {racer}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let body = store.get(&object).await.expect("it is there");
        assert_eq!(body, bodies[winners[0]], "round {round}: the bytes of another racer");
    }
}

async fn probing_leaves_nothing_behind(store: &Arc<dyn Store>) {
    let capabilities = lifeboat_store::probe(store.as_ref()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(capabilities.to_list(), ["create-if-absent", "read-after-write", "ordered-list"]);
    assert!(names(store, "probe/", None, 10).await.is_empty());
}
