//! A real PostgreSQL for tests: a private cluster on loopback and a unix socket, made by `initdb`.
//!
//! The programs are looked for in `$LIFEBOAT_PG_BIN` (`off`: there are none), in
//! `/usr/lib/postgresql/*/bin`, then in `PATH`. One cluster a test process, shared by its tests, which
//! use databases of their own. PostgreSQL refuses to run as root: then all of it belongs to an
//! unprivileged user. A watchdog shell holds a pipe from us; when that closes, however the tests
//! end, it stops the server and removes the directory.
//!
//! Without PostgreSQL the tests that need it are skipped, loudly; never when `CI=true`.
//!
//! What is not here: what a test puts into a database (`fleet`, `nasty`, `own`).

mod fleet;
mod nasty;
mod own;
mod programs;

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::postgres::{Client, NoTls};

pub use fleet::{grow_site, pooled_config, pooled_fleet, site_name};
pub use nasty::{NASTY_SITES, nasty_config, nasty_schema};
pub use own::{own_config, own_site};
use programs::{Owner, find_programs};

/// From start to the first query, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(90);
/// Makes, starts, and once its standard input ends stops and removes: whatever moment we are killed at.
const WATCHDOG: &str = r#"
    bin=$1 dir=$2 primary=$3
    if [ -n "$primary" ]; then
        "$bin/pg_basebackup" --no-sync --write-recovery-conf --checkpoint=fast -d "$primary" -D "$dir/data" >"$dir/server.log" 2>&1
    else
        "$bin/initdb" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions \
            --pgdata "$dir/data" >"$dir/server.log" 2>&1
    fi &&
        cat "$dir/settings" >>"$dir/data/postgresql.conf" &&
        "$bin/pg_ctl" start -s -w -t 80 -D "$dir/data" -l "$dir/server.log" </dev/null ||
        : >"$dir/failed"
    read -r _
    "$bin/pg_ctl" stop -s -m immediate -w -t 30 -D "$dir/data" ||
        kill -9 "$(head -n 1 "$dir/data/postmaster.pid")"
    rm -rf "$dir""#;

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// What a test wants different from the shared cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// Waits for the disk at each commit, as a real server does: for benches.
    pub fsync: bool,
    /// A streaming standby of the cluster that this URL leads to.
    pub standby_of: Option<String>,
    /// Lines for `postgresql.conf`, such as `max_wal_size = '4GB'`; they win over ours.
    pub settings: Vec<String>,
}

/// A running cluster. Its superuser is `postgres`, whom it trusts.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    /// Holds the pipe whose end is the server's end.
    watchdog: Child,
    dir: PathBuf,
    bin: PathBuf,
    owner: Option<Owner>,
}

impl Postgres {
    /// The cluster of this test process, started at the first call.
    ///
    /// `Err` says why there is none.
    pub fn shared() -> Result<&'static Postgres, String> {
        static CLUSTER: OnceLock<Result<Postgres, String>> = OnceLock::new();
        CLUSTER.get_or_init(|| Postgres::start(&ClusterOptions::default())).as_ref().map_err(Clone::clone)
    }

    /// The shared cluster; without one, `None` after saying so, or a panic when `CI=true`.
    #[track_caller]
    pub fn shared_or_skip(test: &str) -> Option<&'static Postgres> {
        Self::or_skip(test, Self::shared())
    }

    /// A cluster of the test's own, by the same rule.
    #[track_caller]
    pub fn start_or_skip(test: &str, options: &ClusterOptions) -> Option<Postgres> {
        Self::or_skip(test, Self::start(options))
    }

    #[track_caller]
    fn or_skip<T>(test: &str, cluster: Result<T, String>) -> Option<T> {
        cluster
            .map_err(|why| {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "no PostgreSQL, and CI may not skip: {why}");
                let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
                // Not println!, which the test harness hides.
                let _ = writeln!(io::stderr(), "SKIPPED ({count} so far): {test}: no PostgreSQL: {why}");
            })
            .ok()
    }

    /// Makes and starts a cluster, stopped and removed when dropped.
    pub fn start(options: &ClusterOptions) -> Result<Postgres, String> {
        let bin = find_programs()?;
        let owner = Owner::needed()?;
        let mut last = String::new();
        // A port is free when it is chosen, not when it is used.
        for _ in 0..3 {
            match Self::start_once(&bin, owner.as_ref(), options) {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn start_once(bin: &Path, owner: Option<&Owner>, options: &ClusterOptions) -> Result<Postgres, String> {
        let fail = |what: &str, error: io::Error| format!("{what}: {error}");
        let dir = scratch_dir(owner).map_err(|error| fail("no scratch directory", error))?;
        let port = free_port().map_err(|error| fail("no free port", error))?;
        fs::write(dir.join("settings"), settings(&dir, port, options)).map_err(|error| fail("no settings", error))?;
        let mut watchdog = as_owner(Command::new("sh"), owner);
        watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(bin).arg(&dir);
        watchdog.arg(options.standby_of.as_deref().unwrap_or_default());
        // A group of its own: a Ctrl-C at the terminal must end us, and only then the server.
        watchdog.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let watchdog = watchdog.spawn().map_err(|error| fail("no shell", error))?;
        let cluster = Postgres { port, watchdog, dir, bin: bin.to_owned(), owner: owner.cloned() };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let Err(error) = query_text(&self.url("postgres"), "SELECT 1") else { return Ok(()) };
            if self.dir.join("failed").exists() || began.elapsed() > READY_MAX {
                let log = self.log();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("PostgreSQL does not get ready: {error}; its log ends: {tail:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A new empty database, by its URL.
    pub fn fresh_database(&self) -> Result<String, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        run_sql(&self.url("postgres"), &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// A database of this cluster over TCP, as the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The same, as another role (which must be there; no password is asked for).
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// A database of this cluster over its unix socket, as the superuser.
    pub fn socket_url(&self, database: &str) -> String {
        format!("host={} port={} user=postgres dbname={database}", self.dir.display(), self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `pg_dump`, `psql` and the like: of the same version, or of whatever version `PATH` has.
    pub fn program(&self, name: &str) -> PathBuf {
        let program = self.bin.join(name);
        if program.exists() { program } else { PathBuf::from(name) }
    }

    /// A program as the server's own user: what it writes, the server may read.
    pub fn command(&self, name: &str) -> Command {
        as_owner(Command::new(self.program(name)), self.owner.as_ref())
    }

    /// The cluster's own directory, with its files in `data`; removed when the cluster ends.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stops the server in `mode` (`fast`, or `immediate`: as if it had crashed) and starts it again.
    pub fn restart(&self, mode: &str) -> Result<(), String> {
        let mut restart = as_owner(Command::new(self.bin.join("pg_ctl")), self.owner.as_ref());
        restart.args(["restart", "-s", "-w", "-t", "80", "-m", mode, "-D"]).arg(self.dir.join("data"));
        // The server would hold our pipe open, and we would wait for its end.
        restart.arg("-l").arg(self.dir.join("server.log")).stdout(Stdio::null()).stderr(Stdio::null());
        let status = restart.stdin(Stdio::null()).status().map_err(|error| format!("pg_ctl: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("pg_ctl restart: {status}")) }
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Runs statements; the text may hold several. For use in any thread, also of a runtime.
pub fn run_sql(url: &str, sql: &str) -> Result<(), String> {
    let sql = sql.to_owned();
    with_client(url, move |client| client.batch_execute(&sql))
}

/// The rows of a query in their text form; `None` is NULL.
pub fn query_text(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let sql = sql.to_owned();
    with_client(url, move |client| {
        let mut rows = Vec::new();
        for message in client.simple_query(&sql)? {
            if let ::postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    })
}

/// The blocking client panics on a thread of a runtime: it gets a thread of its own.
fn with_client<T: Send + 'static>(
    url: &str,
    work: impl FnOnce(&mut Client) -> Result<T, ::postgres::Error> + Send + 'static,
) -> Result<T, String> {
    let url = url.to_owned();
    let thread = std::thread::spawn(move || {
        let mut client = Client::connect(&url, NoTls).map_err(|error| error.to_string())?;
        work(&mut client).map_err(|error| match error.as_db_error() {
            Some(db) => {
                format!("{} ({}): {}", db.message(), db.code().code(), db.where_().or(db.detail()).unwrap_or(""))
            }
            None => error.to_string(),
        })
    });
    thread.join().map_err(|_| "panicked".to_owned())?
}

fn settings(dir: &Path, port: u16, options: &ClusterOptions) -> String {
    let fsync = if options.fsync { "on" } else { "off" };
    let mut lines = vec![
        format!("port = {port}"),
        "listen_addresses = '127.0.0.1'".to_owned(),
        format!("unix_socket_directories = '{}'", dir.display()),
        format!("fsync = {fsync}"),
        format!("full_page_writes = {fsync}"),
        "wal_level = logical".to_owned(),
        "max_wal_senders = 10".to_owned(),
        "max_replication_slots = 10".to_owned(),
        "max_prepared_transactions = 10".to_owned(),
        "max_connections = 100".to_owned(),
        "shared_buffers = '64MB'".to_owned(),
        "timezone = 'UTC'".to_owned(),
        "log_line_prefix = '%m [%p] %q%u@%d '".to_owned(),
    ];
    lines.extend(options.settings.iter().cloned());
    lines.push(String::new());
    lines.join("\n")
}

fn as_owner(mut command: Command, owner: Option<&Owner>) -> Command {
    if let Some(owner) = owner {
        // The group list is emptied by std when root sets another user.
        command.gid(owner.gid).uid(owner.uid);
    }
    // Settings of the person's own psql must not reach the cluster.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.current_dir("/");
    command
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A socket's path may have 107 bytes; what only root may enter is of no use to another user.
fn scratch_dir(owner: Option<&Owner>) -> io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut base = std::env::temp_dir();
    if owner.is_some() || base.as_os_str().len() > 50 {
        base = PathBuf::from("/tmp");
    }
    let dir = base.join(format!("lifeboat-pg-{}-{number}", std::process::id()));
    // What is there already belongs to a dead process whose id came again.
    let _ = fs::remove_dir_all(&dir);
    fs::DirBuilder::new().mode(0o700).create(&dir)?;
    if let Some(owner) = owner {
        chown(&dir, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests;
