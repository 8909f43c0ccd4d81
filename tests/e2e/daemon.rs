//! `lifeboat run`, as systemd runs it: what is due, signals, a kill, another daemon, a store that goes away.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lifeboat_testkit::postgres::{ClusterOptions, Postgres, run_sql};
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::Value;

use crate::gate::Gate;
use crate::place::Place;

const SOON: Duration = Duration::from_secs(90);
/// First points come at once; the next firing is never within a test.
const YEARLY: &str = "schedule = \"0 0 1 1 *\"\ntimezone = \"Europe/Berlin\"\n";

/// A daemon, killed when it is dropped.
pub struct Daemon<'p> {
    child: Child,
    place: &'p Place,
    log: String,
}

impl<'p> Daemon<'p> {
    pub fn start(place: &'p Place, log: &str) -> Self {
        let file = std::fs::File::create(place.path(log)).expect("a file");
        let mut command = place.command(&["run", "--log-format", "json", "--json"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::from(file)).spawn().expect("the binary runs");
        Self { child, place, log: log.to_owned() }
    }

    /// Its lines so far; every one is an object.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.place.path(&self.log)).expect("the log");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    /// Waits for a line whose message has this in it, for the so-manieth time.
    pub fn wait_for(&self, message: &str, times: usize) -> Value {
        let till = Instant::now() + SOON;
        loop {
            let lines = self.lines();
            let mut found = lines.iter().filter(|line| said(line).contains(message));
            if let Some(line) = found.nth(times - 1) {
                return line.clone();
            }
            assert!(Instant::now() < till, "never said `{message}` {times} times: {lines:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn count(&self, message: &str) -> usize {
        self.lines().iter().filter(|line| said(line).contains(message)).count()
    }

    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// How it ended, after a signal.
    pub fn ended(&mut self) -> Option<i32> {
        let till = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < till, "it does not end: {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What systemd would hear.
fn listen(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let (ear, told) = (UnixDatagram::bind(path).expect("a socket"), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&told);
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok(len) = ear.recv(&mut bytes) {
            heard.lock().expect("a lock").push(String::from_utf8_lossy(&bytes[..len]).into_owned());
        }
    });
    told
}

fn said(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

fn configure(place: &Place, more: &str) {
    let path = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let text = text.replacen("[policy]\n", &format!("[policy]\n{YEARLY}"), 1);
    assert!(text.contains(YEARLY), "{text}");
    std::fs::write(&path, format!("{text}\n[daemon]\npoll = \"1s\"\n[check]\nevery = \"off\"\n{more}"))
        .expect("the configuration");
}

fn points(place: &Place, site: &str) -> usize {
    let said = place.ok(&["points", site, "--json"]);
    said.out.lines().filter(|line| line.contains("\"snapshot_id\"")).count()
}

#[test]
fn the_daemon_does_what_is_due_keeps_to_its_configuration_and_stops_when_told() {
    let mut place = Place::new(None, Vec::new());
    let told = listen(&place.path("notify"));
    let socket = place.path("notify").display().to_string();
    place.envs = vec![("NOTIFY_SOCKET".into(), socket), ("WATCHDOG_USEC".into(), "1000000".into())];
    configure(&place, "[drill]\nevery = \"30d\"\nsample = 1\n");
    place.make_site("acme");
    place.make_site("globex");
    let mut daemon = Daemon::start(&place, "log");
    let done = daemon.wait_for("backed up", 1);
    assert_eq!((&done["fields"]["published"], &done["fields"]["failed"]), (&2.into(), &0.into()), "{done}");
    daemon.wait_for("1 of 1 sites proven restorable", 1);
    for site in ["acme", "globex"] {
        assert!(daemon.lines().iter().any(|line| said(line) == "published" && line["fields"]["site"] == site));
    }
    assert_eq!((points(&place, "acme"), daemon.count("begins")), (1, 2));

    // One daemon is enough, and who it is is said.
    let second = place.run(&["run"]);
    let pid = daemon.child.id();
    assert!(second.code == 12 && second.err.contains(&format!("pid=`{pid}`")), "{second:?}");

    // A configuration with a mistake is refused, and the work goes on; a good one is taken.
    let config = place.path("lifeboat.toml");
    let good = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, good.replace("Europe/Berlin", "Europe/Berln")).expect("the configuration");
    daemon.signal("-HUP");
    let refused = daemon.wait_for("no such time zone: key=`policy.timezone`", 1);
    assert!(refused["fields"]["hint"].as_str().is_some_and(|hint| hint.contains("`Europe/Berlin`")), "{refused}");
    daemon.wait_for("THE NEW CONFIGURATION IS REFUSED", 1);
    std::fs::write(&config, good.replace("file://", "file:///other")).expect("the configuration");
    daemon.signal("-HUP");
    daemon.wait_for("a daemon that runs keeps its repository", 1);
    place.make_site("initech");
    std::fs::write(&config, good.replace("poll = \"1s\"", "poll = \"1s\"\ndiscover = \"1s\""))
        .expect("the configuration");
    daemon.signal("-HUP");
    daemon.wait_for("the new configuration is in force", 1);
    // Who is new has their first point at once; nobody else is due.
    let done = daemon.wait_for("backed up", 2);
    assert_eq!((&done["fields"]["asked"], &done["fields"]["published"]), (&1.into(), &1.into()), "{done}");

    // The watchdog is told each half second, and all of this may have taken less.
    let till = Instant::now() + SOON;
    while !told.lock().expect("a lock").iter().any(|text| text == "WATCHDOG=1") {
        assert!(Instant::now() < till, "the watchdog is never told");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.signal("-TERM");
    assert_eq!(daemon.ended(), Some(0), "{:#?}", daemon.lines());
    let told = told.lock().expect("a lock").clone();
    assert!(told[0].starts_with("READY=1"), "{told:?}");
    for wanted in ["WATCHDOG=1", "RELOADING=1", "STATUS=3 sites, 0 due", "STOPPING=1"] {
        assert!(told.iter().any(|text| text.starts_with(wanted)), "{wanted}: {told:?}");
    }
    assert_eq!(points(&place, "acme"), 1);
}

#[test]
fn a_daemon_that_was_killed_goes_on_without_doing_anything_twice() {
    let place = Place::new(None, Vec::new());
    configure(
        &place,
        "[hooks]\nfreeze = [\"/bin/sh\", \"-c\", \"sleep 0.7\", \"{site}\"]\nthaw = [\"/bin/true\", \"{site}\"]\n",
    );
    let sites: Vec<String> = (0..12).map(|number| format!("site-{number}")).collect();
    sites.iter().for_each(|site| place.make_site(site));
    let first = Daemon::start(&place, "first");
    let is_there = |site: &String| place.run(&["points", site]).code == 0;
    let till = Instant::now() + SOON;
    while sites.iter().filter(|site| is_there(site)).count() < 3 {
        assert!(Instant::now() < till, "{:#?}", first.lines());
    }
    drop(first); // kill -9
    let finished: Vec<&String> = sites.iter().filter(|site| is_there(site)).collect();
    assert!((3..12).contains(&finished.len()), "{finished:?}");

    // Asked to stop in the middle, it stops between two sites.
    let mut second = Daemon::start(&place, "second");
    let begun = second.wait_for("begins", 1);
    assert!(begun["fields"]["sites"].as_u64().is_some_and(|count| count <= 12 - finished.len() as u64), "{begun}");
    while sites.iter().filter(|site| is_there(site)).count() < finished.len() + 2 {
        assert!(Instant::now() < till + SOON, "{:#?}", second.lines());
    }
    second.signal("-TERM");
    assert_eq!(second.ended(), Some(0));
    let stopped = sites.iter().filter(|site| is_there(site)).count();
    assert!(stopped < 12, "it was to stop in the middle");

    let mut third = Daemon::start(&place, "third");
    let done = third.wait_for("backed up", 1);
    assert_eq!(done["fields"]["published"], 12 - stopped, "{done}");
    third.signal("-TERM");
    assert_eq!(third.ended(), Some(0));
    assert!(sites.iter().all(|site| points(&place, site) == 1), "a site was published twice");
    place.ok(&["check"]);
}

#[test]
fn a_store_that_goes_away_and_comes_back_needs_nobody() {
    let Some(server) = S3Server::shared_or_skip("a_store_that_goes_away_and_comes_back_needs_nobody") else { return };
    let gate = Gate::before(&server.endpoint());
    let url = gate.url(&server.fresh_url().expect("a bucket"));
    let envs = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let place = Place::new(Some(url), envs.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    configure(&place, "");
    set_discover(&place.path("lifeboat.toml"));
    place.make_site("acme");
    let mut daemon = Daemon::start(&place, "log");
    daemon.wait_for("backed up", 1);
    gate.shut();
    place.make_site("globex");
    daemon.wait_for("it is tried again", 1);
    gate.open();
    let done = daemon.wait_for("backed up", 2);
    assert_eq!((&done["fields"]["asked"], &done["fields"]["published"]), (&1.into(), &1.into()), "{done}");
    daemon.signal("-TERM");
    assert_eq!(daemon.ended(), Some(0), "{:#?}", daemon.lines());
    // It can be started while the store is away, too.
    gate.shut();
    place.make_site("initech");
    let mut again = Daemon::start(&place, "again");
    again.wait_for("the store fails; still trying", 1);
    gate.open();
    again.wait_for("backed up", 1);
    again.signal("-TERM");
    assert_eq!(again.ended(), Some(0), "{:#?}", again.lines());
    assert_eq!((points(&place, "globex"), points(&place, "initech")), (1, 1));
}

fn set_discover(config: &Path) {
    let text = std::fs::read_to_string(config).expect("the configuration");
    std::fs::write(config, text.replace("poll = \"1s\"", "poll = \"1s\"\ndiscover = \"1s\""))
        .expect("the configuration");
}

#[test]
fn a_database_server_that_crashes_and_comes_back_needs_nobody_and_loses_no_change() {
    const TEST: &str = "a_database_server_that_crashes_and_comes_back_needs_nobody_and_loses_no_change";
    let options = ClusterOptions { settings: vec!["wal_level = logical".into()], ..ClusterOptions::default() };
    let Some(cluster) = Postgres::start_or_skip(TEST, &options) else { return };
    let url = cluster.fresh_database().expect("a database");
    let tables = "CREATE TABLE sites (id text PRIMARY KEY); INSERT INTO sites VALUES ('acme');
        CREATE TABLE note (id int PRIMARY KEY, site_id text NOT NULL REFERENCES sites, body text);
        INSERT INTO note SELECT n, 'acme', 'note ' || n FROM generate_series(1, 50) n";
    run_sql(&url, tables).expect("tables");
    let place = Place::new(None, vec![("APP_URL".into(), url.clone())]);
    configure(
        &place,
        "[capture]\nflush = \"1s\"\n[sources.app]\nkind = \"postgres\"\nurl = \"env:APP_URL\"\ntenancy = \"column\"\n\
         tenant_column = \"site_id\"\nroot = \"sites\"\n",
    );
    set_discover(&place.path("lifeboat.toml"));
    let config = std::fs::read_to_string(place.path("lifeboat.toml")).expect("the configuration");
    std::fs::write(place.path("lifeboat.toml"), config.replacen(YEARLY, &format!("{YEARLY}capture = true\n"), 1))
        .expect("the configuration");
    let mut daemon = Daemon::start(&place, "log");
    daemon.wait_for("backed up", 1);
    daemon.wait_for("app: follows changes from here on (epoch 1)", 1);
    daemon.wait_for("have their base", 1);
    cluster.restart("immediate").expect("the server comes back");
    run_sql(
        &url,
        "INSERT INTO sites VALUES ('globex'); INSERT INTO note VALUES (100, 'globex', 'new'), (101, 'acme', 'since')",
    )
    .expect("rows");
    daemon.wait_for("app: follows changes again", 1);
    // Who is new has a point, and what was written since is in the log.
    let till = Instant::now() + SOON;
    while place.run(&["points", "globex"]).code != 0 {
        assert!(Instant::now() < till, "{:#?}", daemon.lines());
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.signal("-TERM");
    assert_eq!(daemon.ended(), Some(0), "{:#?}", daemon.lines());
    place.ok(&["capture", "--until-caught-up"]);
    let proven = place.ok(&["check", "acme", "--against-source"]);
    assert!(proven.out.contains("acme/app: base and") && proven.out.contains("52 live rows"), "{proven:?}");
}
