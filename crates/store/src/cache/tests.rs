use super::*;
use crate::{MemoryStore, Meter, Meters};

struct Bench {
    dir: tempfile::TempDir,
    cache: Cache<Meter<MemoryStore>>,
    meters: Arc<Meters>,
}

fn options(bytes_max: u64) -> CacheOptions {
    // Everything, so that only the rule of the cache itself keeps keys out.
    CacheOptions { namespace: "one".into(), bytes_max, accept: Arc::new(|_| true) }
}

fn bench(bytes_max: u64) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::new(MemoryStore::new());
    let meters = meter.meters();
    let cache = Cache::new(meter, &dir.path().join("cache"), options(bytes_max));
    Bench { dir, cache, meters }
}

impl Bench {
    async fn create(&self, text: &str, body: &[u8]) {
        self.cache.create(&name(text), Bytes::copy_from_slice(body)).await.unwrap();
    }

    /// How many requests a get sends to the store.
    async fn requests(&self, text: &str, want: &[u8]) -> u64 {
        let before = self.meters.snapshot();
        assert_eq!(self.cache.get(&name(text)).await.unwrap(), want);
        self.meters.snapshot().since(&before).requests()
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for folder in std::fs::read_dir(self.dir.path().join("cache")).into_iter().flatten() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                found.push(file.unwrap().path());
            }
        }
        found
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

#[tokio::test]
async fn no_copy_answers_for_what_the_store_holds() {
    let bench = bench(1 << 20);
    bench.create("a/b", b"hello").await;
    bench.cache.store.delete(&name("a/b")).await.unwrap();
    assert_eq!(bench.requests("a/b", b"hello").await, 0, "there is a copy");
    let held = bench.cache.holds(&name("a/b"), &Bytes::from_static(b"hello")).await;
    assert!(matches!(held, Err(Error::NotFound { .. })), "{held:?}");
}

#[tokio::test]
async fn a_copy_is_served_without_a_request() {
    let bench = bench(1 << 20);
    bench.create("a/b", b"hello").await;
    assert_eq!(bench.requests("a/b", b"hello").await, 0);
    assert_eq!(bench.cache.get_range(&name("a/b"), 1..3).await.unwrap(), &b"el"[..]);
    let beyond = bench.cache.get_range(&name("a/b"), 1..6).await;
    assert!(matches!(beyond, Err(Error::Truncated { wanted: 6, len: 5, .. })));
    assert_eq!(bench.meters.snapshot().requests(), 1, "the create alone");
}

#[tokio::test]
async fn what_others_created_is_kept_when_it_is_read() {
    let bench = bench(1 << 20);
    bench.cache.store.create(&name("a"), Bytes::from_static(b"theirs")).await.unwrap();
    assert_eq!(bench.requests("a", b"theirs").await, 1);
    assert_eq!(bench.requests("a", b"theirs").await, 0);
}

#[tokio::test]
async fn a_damaged_copy_is_thrown_away_and_read_again() {
    for damage in [0usize, 31, 32, 36] {
        let bench = bench(1 << 20);
        bench.create("a/b", b"hello").await;
        let [file] = &bench.files()[..] else { panic!("one file") };
        let mut bytes = std::fs::read(file).unwrap();
        bytes[damage] ^= 1;
        std::fs::write(file, bytes).unwrap();
        assert_eq!(bench.requests("a/b", b"hello").await, 1, "byte {damage}");
        assert_eq!(bench.requests("a/b", b"hello").await, 0, "kept anew");
    }
    for len in [0, 10, 32, 36] {
        let bench = bench(1 << 20);
        bench.create("a/b", b"hello").await;
        let file = std::fs::File::options().write(true).open(&bench.files()[0]).unwrap();
        file.set_len(len).unwrap();
        assert_eq!(bench.requests("a/b", b"hello").await, 1, "cut to {len}");
    }
}

#[tokio::test]
async fn a_copy_in_the_place_of_another_is_not_taken_for_it() {
    let bench = bench(1 << 20);
    bench.create("a", b"first").await;
    let first = bench.files()[0].clone();
    bench.create("b", b"other").await;
    let second = bench.files().into_iter().find(|file| *file != first).unwrap();
    std::fs::rename(second, first).unwrap();
    assert_eq!(bench.requests("a", b"first").await, 1);
}

#[tokio::test]
async fn keys_are_never_cached() {
    let bench = bench(1 << 20);
    bench.create("keys/site/1", b"wrapped").await;
    assert_eq!(bench.requests("keys/site/1", b"wrapped").await, 1);
    assert_eq!(bench.requests("keys/site/1", b"wrapped").await, 1);
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn what_the_predicate_refuses_is_not_cached() {
    let meter = Meter::new(MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    let accept: CachePredicate = Arc::new(|name| name.as_str().starts_with("index/"));
    let cache = Cache::new(meter, dir.path(), CacheOptions { accept, ..options(1 << 20) });
    cache.create(&name("pack/a"), Bytes::from_static(b"a")).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    cache.create(&name("index/a"), Bytes::from_static(b"a")).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn repositories_that_share_a_directory_do_not_mix() {
    let bench = bench(1 << 20);
    bench.create("a", b"mine").await;
    let other = CacheOptions { namespace: "two".into(), ..options(1 << 20) };
    let other = Cache::new(MemoryStore::new(), &bench.dir.path().join("cache"), other);
    assert!(matches!(other.get(&name("a")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_deleted_object_leaves_no_copy() {
    let bench = bench(1 << 20);
    bench.create("a", b"gone").await;
    bench.cache.delete(&name("a")).await.unwrap();
    assert!(bench.files().is_empty());
    assert!(matches!(bench.cache.get(&name("a")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_oldest_copies_make_room() {
    let bench = bench(10_000);
    for number in 0..40 {
        bench.create(&format!("a/{number}"), &[number; 1000]).await;
        // Ages are told apart by the file's time.
        let files = bench.files();
        let newest = files.iter().max_by_key(|file| file.metadata().unwrap().modified().unwrap()).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(number));
        std::fs::File::options().write(true).open(newest).unwrap().set_modified(time).unwrap();
        let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes <= 10_000, "{bytes} bytes after {number}");
    }
    assert_eq!(bench.requests("a/39", &[39; 1000]).await, 0, "the newest is there");
    assert_eq!(bench.requests("a/0", &[0; 1000]).await, 1, "the oldest went");
}

#[tokio::test]
async fn a_copy_too_large_for_the_cache_is_not_kept() {
    let bench = bench(1000);
    bench.create("a", &[7; 500]).await;
    assert!(bench.files().is_empty());
    assert_eq!(bench.requests("a", &[7; 500]).await, 1);
}

#[tokio::test]
async fn a_cache_that_cannot_work_fails_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, b"in the way").unwrap();
    let cache = Cache::new(MemoryStore::new(), &file, options(1 << 20));
    cache.create(&name("a"), Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(cache.get(&name("a")).await.unwrap(), &b"hello"[..]);
    assert_eq!(cache.get_range(&name("a"), 0..1).await.unwrap(), &b"h"[..]);
    cache.delete(&name("a")).await.unwrap();
}
