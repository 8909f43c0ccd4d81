use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

/// Takes a second for everything and notes how much goes on at once.
#[derive(Debug, Default)]
struct Slow {
    now: AtomicUsize,
    peak: AtomicUsize,
    bytes_now: AtomicU64,
    bytes_peak: AtomicU64,
}

impl Slow {
    async fn work(&self, bytes: u64) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        let bytes_now = self.bytes_now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.bytes_peak.fetch_max(bytes_now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.bytes_now.fetch_sub(bytes, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Slow {
    async fn create(&self, _: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.work(body.len() as u64).await;
        Ok(())
    }
    async fn get(&self, _: &ObjectName) -> Result<Bytes, Error> {
        self.work(1 << 20).await;
        Ok(Bytes::new())
    }
    async fn get_range(&self, _: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.work(range.end - range.start).await;
        Ok(Bytes::new())
    }
    async fn list(&self, _: &str, _: Option<&ObjectName>, _: usize) -> Result<Vec<Listed>, Error> {
        self.work(0).await;
        Ok(Vec::new())
    }
    async fn delete(&self, _: &ObjectName) -> Result<(), Error> {
        self.work(0).await;
        Ok(())
    }
    fn describe(&self) -> String {
        "slow".into()
    }
}

fn limit(connections_max: usize, bytes_max: u64) -> Arc<Limit<Slow>> {
    let limits = Limits { connections_max, bytes_max, get_estimate_bytes: 1 << 20 };
    Arc::new(Limit::new(Slow::default(), limits))
}

/// Runs `count` requests at once and returns how many seconds that took.
async fn seconds<F>(count: usize, request: impl Fn(usize) -> F) -> u64
where
    F: Future<Output = ()> + Send + 'static,
{
    let began = tokio::time::Instant::now();
    let running: Vec<_> = (0..count).map(|number| tokio::spawn(request(number))).collect();
    for one in running {
        one.await.unwrap();
    }
    began.elapsed().as_secs()
}

fn name() -> ObjectName {
    ObjectName::new("a").unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_allowed_are_under_way() {
    let limit = limit(4, u64::MAX);
    let shared = Arc::clone(&limit);
    let took = seconds(20, move |number| {
        let limit = Arc::clone(&shared);
        async move {
            match number % 3 {
                0 => drop(limit.list("", None, 1).await),
                1 => drop(limit.delete(&name()).await),
                _ => drop(limit.create(&name(), Bytes::new()).await),
            }
        }
    })
    .await;
    assert_eq!((took, limit.within.store.peak.load(Ordering::SeqCst)), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_than_allowed_are_under_way() {
    let limit = limit(100, 4 << 20);
    let shared = Arc::clone(&limit);
    let took = seconds(12, move |number| {
        let limit = Arc::clone(&shared);
        async move {
            match number % 3 {
                0 => drop(limit.get(&name()).await),
                1 => drop(limit.get_range(&name(), 0..1 << 20).await),
                _ => drop(limit.create(&name(), Bytes::from(vec![0; 1 << 20])).await),
            }
        }
    })
    .await;
    assert_eq!((took, limit.within.store.bytes_peak.load(Ordering::SeqCst)), (3, 4 << 20));
}

#[tokio::test(start_paused = true)]
async fn a_body_above_the_limit_goes_alone() {
    let limit = limit(100, 1 << 20);
    let shared = Arc::clone(&limit);
    let took = seconds(3, move |_| {
        let limit = Arc::clone(&shared);
        async move { drop(limit.get_range(&name(), 0..10 << 20).await) }
    })
    .await;
    assert_eq!((took, limit.within.store.peak.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_not_starved_by_small_ones() {
    let limit = limit(100, 4 << 20);
    let one = |limit: Arc<Limit<Slow>>, len: u64| async move { drop(limit.get_range(&name(), 0..len).await) };
    let first = tokio::spawn(one(Arc::clone(&limit), 1 << 20));
    tokio::task::yield_now().await;
    let large = tokio::spawn(one(Arc::clone(&limit), 4 << 20));
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    let small: Vec<_> = (0..50).map(|_| tokio::spawn(one(Arc::clone(&limit), 1 << 20))).collect();
    first.await.unwrap();
    large.await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(2), "the large one had to wait for the small ones behind it");
    for one in small {
        one.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_given_up_frees_its_place() {
    let limit = limit(1, 1 << 20);
    let held = tokio::time::timeout(Duration::from_millis(1), limit.get(&name())).await;
    assert!(held.is_err());
    tokio::time::timeout(Duration::from_secs(2), limit.get(&name())).await.unwrap().unwrap();
}

/// As a restore does: what is read ahead is left alone while what came first is worked on, which asks for more.
#[tokio::test(start_paused = true)]
async fn requests_that_nobody_looks_at_do_not_keep_their_places() {
    use futures_util::StreamExt;
    let limit = limit(2, u64::MAX);
    let reads = (0..6).map(|_| {
        let limit = Arc::clone(&limit);
        async move { limit.get_range(&name(), 0..1).await }
    });
    let mut ahead = futures_util::stream::iter(reads).buffered(4);
    let work = async {
        while let Some(read) = ahead.next().await {
            read.unwrap();
            limit.get_range(&name(), 0..1).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it goes on");
    assert_eq!(limit.within.store.peak.load(Ordering::SeqCst), 2);
}
