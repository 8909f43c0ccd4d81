use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::MemoryStore;

/// Answers with the failures it was given, in order, then works. `Lost` takes effect first.
#[derive(Debug, Default)]
struct Flaky {
    store: MemoryStore,
    failures: Mutex<Vec<Failing>>,
    asked: Mutex<Vec<Instant>>,
    always: AtomicBool,
}

#[derive(Debug, Clone)]
enum Failing {
    With(Error),
    Lost,
}

impl Flaky {
    fn with(mut failures: Vec<Failing>) -> Self {
        failures.reverse();
        Self { failures: Mutex::new(failures), ..Self::default() }
    }

    fn next(&self) -> Option<Failing> {
        self.asked.lock().unwrap().push(Instant::now());
        if self.always.load(Ordering::Relaxed) {
            return Some(Failing::With(unavailable(None)));
        }
        self.failures.lock().unwrap().pop()
    }

    async fn answer<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.next() {
            None => work.await,
            Some(Failing::With(error)) => Err(error),
            Some(Failing::Lost) => {
                let _ = work.await;
                Err(unavailable(None))
            }
        }
    }
}

#[async_trait]
impl Store for Flaky {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.answer(self.store.create(name, body)).await
    }
    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.answer(self.store.get(name)).await
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.answer(self.store.get_range(name, range)).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.answer(self.store.list(prefix, after, limit)).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.answer(self.store.delete(name)).await
    }
    fn describe(&self) -> String {
        "flaky".into()
    }
}

fn unavailable(seconds: Option<u64>) -> Error {
    Error::Unavailable { detail: "503".into(), after: seconds.map(Duration::from_secs) }
}

fn name() -> ObjectName {
    ObjectName::new("a/b").unwrap()
}

fn body() -> Bytes {
    Bytes::from_static(b"ours")
}

const POLICY: RetryPolicy = RetryPolicy {
    attempts_max: 4,
    total_max: Duration::from_secs(60),
    delay_first: Duration::from_secs(1),
    delay_max: Duration::from_secs(3),
};

fn retry(failures: Vec<Failing>) -> Retry<Flaky> {
    Retry::new(Flaky::with(failures), POLICY)
}

fn attempts(retry: &Retry<Flaky>) -> usize {
    retry.store.asked.lock().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_passing_is_tried_again() {
    let retry = retry(vec![Failing::With(unavailable(None)); 3]);
    retry.create(&name(), body()).await.unwrap();
    assert_eq!(attempts(&retry), 4);
    assert_eq!(retry.store.store.get(&name()).await.unwrap(), body());
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_request_is_tried_again() {
    let once = || retry(vec![Failing::With(unavailable(None))]);
    let check = |retry: &Retry<Flaky>| assert_eq!(attempts(retry), 2);
    let retry = once();
    retry.store.store.create(&name(), body()).await.unwrap();
    assert_eq!(retry.get(&name()).await.unwrap(), body());
    check(&retry);
    let retry = once();
    retry.store.store.create(&name(), body()).await.unwrap();
    assert_eq!(retry.get_range(&name(), 1..3).await.unwrap(), body().slice(1..3));
    check(&retry);
    let retry = once();
    assert!(retry.list("", None, 1).await.unwrap().is_empty());
    check(&retry);
    let retry = once();
    retry.delete(&name()).await.unwrap();
    check(&retry);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_by_number() {
    let retry = retry(vec![]);
    retry.store.always.store(true, Ordering::Relaxed);
    assert!(matches!(retry.get(&name()).await, Err(Error::Unavailable { .. })));
    assert_eq!(attempts(&retry), 4);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_by_time() {
    let policy = RetryPolicy { attempts_max: 1000, ..POLICY };
    let retry = Retry::new(Flaky::with(vec![Failing::With(unavailable(Some(25))); 1000]), policy);
    let began = Instant::now();
    assert!(retry.get(&name()).await.is_err());
    assert_eq!(attempts(&retry), 3, "at 0, 25 and 50 seconds");
    assert!(began.elapsed() <= POLICY.total_max);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_fit_is_not_begun() {
    let retry = retry(vec![Failing::With(unavailable(Some(61)))]);
    let began = Instant::now();
    assert!(retry.get(&name()).await.is_err());
    assert_eq!((attempts(&retry), began.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_store_is_given_the_time_it_asks_for() {
    let retry = retry(vec![Failing::With(unavailable(Some(20)))]);
    let began = Instant::now();
    assert!(matches!(retry.get(&name()).await, Err(Error::NotFound { .. })));
    assert!(began.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn only_passing_failures_are_tried_again() {
    let refused = Error::Refused { detail: "403".into(), hint: "a hint".into() };
    for error in
        [refused, Error::Full { detail: "disk".into() }, Error::Cancelled, Error::NotFound { name: "a".into() }]
    {
        let retry = retry(vec![Failing::With(error.clone())]);
        assert_eq!(retry.get(&name()).await.unwrap_err().to_string(), error.to_string());
        assert_eq!(attempts(&retry), 1, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_was_lost_is_recognised_as_ours() {
    let retry = retry(vec![Failing::Lost]);
    retry.create(&name(), body()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_is_never_taken_for_ours() {
    let retry = retry(vec![Failing::With(unavailable(None))]);
    retry.store.store.create(&name(), Bytes::from_static(b"theirs")).await.unwrap();
    assert!(matches!(retry.create(&name(), body()).await, Err(Error::AlreadyExists { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_clear_refusal_is_not_read_back() {
    // Equal bytes, but no attempt of ours was unclear: the other one was first.
    let retry = retry(vec![]);
    retry.store.store.create(&name(), body()).await.unwrap();
    assert!(matches!(retry.create(&name(), body()).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(attempts(&retry), 1);
}

#[tokio::test(start_paused = true)]
async fn reading_back_is_tried_again_too() {
    let retry = retry(vec![Failing::Lost, Failing::With(unavailable(None))]);
    // Lost, unavailable, exists, read back.
    retry.create(&name(), body()).await.unwrap();
    assert_eq!(attempts(&retry), 4);
}

#[test]
fn delays_double_up_to_their_ceiling() {
    let check =
        |next: u32, seconds: u64| assert_eq!(POLICY.delay_ceiling(next), Duration::from_secs(seconds), "{next}");
    check(2, 1);
    check(3, 2);
    check(4, 3);
    check(400, 3);
}

#[test]
fn jitter_is_anywhere_below_the_ceiling() {
    let ceiling = Duration::from_secs(1);
    let delays: Vec<Duration> = (0..1000).map(|_| full_jitter(ceiling)).collect();
    assert!(delays.iter().all(|delay| *delay <= ceiling));
    for tenth in 0..10 {
        let (from, till) = (ceiling * tenth / 10, ceiling * (tenth + 1) / 10);
        assert!(delays.iter().any(|delay| (from..till).contains(delay)), "nothing in {from:?}..{till:?}");
    }
}
