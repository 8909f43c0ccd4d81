//! The verbs on real directories and databases, as programs and people call them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Ran, lifeboat_in, lifeboat_with, process, words};
use crate::run;
use crate::testing::captured_terminal;

/// A fleet of three sites beside a configuration with a new repository.
pub(super) struct Home {
    dir: tempfile::TempDir,
    recovery: String,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for site in ["acme", "globex", "initech"] {
            let files = dir.path().join("srv").join(site).join("files/deep");
            std::fs::create_dir_all(&files).unwrap();
            std::fs::write(files.join("noise"), noise(site, 200_000)).unwrap();
            std::fs::write(files.parent().unwrap().join("a.txt"), format!("hello {site}\n")).unwrap();
            let notes = rusqlite::Connection::open(dir.path().join("srv").join(site).join("notes.db")).unwrap();
            notes.execute_batch("CREATE TABLE note (body TEXT); INSERT INTO note VALUES ('one'), ('two');").unwrap();
        }
        let ran = lifeboat_in(dir.path(), &["init", "--json"]);
        assert_eq!(ran.exit_code, 0, "{}", ran.stdout);
        let recovery = ran.event("recovery_key")["recovery_key"].as_str().unwrap().to_owned();
        let config = dir.path().join("lifeboat.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        text.push_str(
            "[sources.notes]\nkind = \"sqlite\"\npath = \"srv/{site}/notes.db\"\n\
             [sources.files]\nkind = \"files\"\npath = \"srv/{site}/files\"\n",
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, recovery }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        lifeboat_in(self.dir.path(), args)
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.exit_code, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Fails with this code and a text of stderr.
    #[track_caller]
    pub fn fails(&self, args: &[&str], exit_code: u8, told: &str) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.exit_code, exit_code, "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(told), "{args:?}: {}", ran.stderr);
        ran
    }

    /// Every object of the repository below a path.
    fn objects(&self, below: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.path("lifeboat-repository").join(below)];
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                todo.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.exists() {
                found.push(path);
            }
        }
        found.sort();
        found
    }
}

fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| state.rotate_left(9) ^ u64::from(byte));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn rows(path: &Path) -> i64 {
    let notes = rusqlite::Connection::open(path).unwrap();
    notes.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap()
}

fn damage(home: &Home) {
    std::fs::remove_dir_all(home.path("srv/acme/files/deep")).unwrap();
    std::fs::write(home.path("srv/acme/files/a.txt"), "changed").unwrap();
    std::fs::write(home.path("srv/acme/files/extra"), "extra").unwrap();
    let notes = rusqlite::Connection::open(home.path("srv/acme/notes.db")).unwrap();
    notes.execute_batch("DELETE FROM note").unwrap();
}

#[test]
fn a_site_goes_there_and_back_and_there_again() {
    let home = Home::new();
    let done = home.ok(&["backup", "--all", "--json"]).last();
    assert_eq!(
        (done["published"].as_u64(), done["unchanged"].as_u64(), done["run"].as_u64()),
        (Some(3), Some(0), Some(1))
    );
    let done = home.ok(&["backup", "--all", "--json"]).last();
    assert_eq!((done["unchanged"].as_u64(), done["added_bytes"].as_u64()), (Some(3), Some(0)));

    damage(&home);
    let plan = home.ok(&["restore", "acme", "--dry-run", "--json"]);
    let hash = plan.event("plan")["plan_hash"].as_str().unwrap().to_owned();
    assert_eq!(plan.last()["plan_hash"].as_str(), Some(hash.as_str()));
    assert_eq!(rows(&home.path("srv/acme/notes.db")), 0, "a dry run writes nothing");
    home.fails(&["restore", "acme"], 2, "--yes");
    home.fails(&["restore", "acme", "--plan", "0123456789abcdef"], 10, "not the approved plan");

    let done = home.ok(&["restore", "acme", "--plan", &hash, "--json"]).last();
    for key in [
        "restore_id",
        "site",
        "at",
        "snapshot_id",
        "parts",
        "bytes_read",
        "requests",
        "duration_ms",
        "checks",
        "undo_id",
    ] {
        assert!(!done[key].is_null(), "{key}: {done}");
    }
    for key in ["source", "entries", "rows", "files", "bytes", "digest_ok"] {
        assert!(!done["parts"][0][key].is_null(), "{key}: {done}");
    }
    assert!(done["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true), "{done}");
    assert_eq!(std::fs::read(home.path("srv/acme/files/deep/noise")).unwrap(), noise("acme", 200_000));
    assert_eq!((rows(&home.path("srv/acme/notes.db")), home.path("srv/acme/files/extra").exists()), (2, false));

    let restore = done["restore_id"].as_str().unwrap();
    home.ok(&["undo", restore, "--yes"]);
    assert_eq!(std::fs::read_to_string(home.path("srv/acme/files/a.txt")).unwrap(), "changed");
    assert_eq!((rows(&home.path("srv/acme/notes.db")), home.path("srv/acme/files/extra").exists()), (0, true));
    home.fails(&["undo", "0000000000000000", "--yes"], 2, "no restore of this id");
}

#[test]
fn a_person_looks_before_restoring() {
    let home = Home::new();
    home.ok(&["backup", "acme"]);
    assert_eq!(home.ok(&["cat", "acme:files/a.txt"]).stdout, "hello acme\n");
    let data = home.ok(&["cat", "acme:files/a.txt", "--json"]);
    assert_eq!(data.event("data")["base64"].as_str(), Some("aGVsbG8gYWNtZQo="));
    assert!(home.ok(&["ls", "acme"]).stdout.contains("files"));
    assert!(home.ok(&["ls", "acme:files"]).stdout.contains("a.txt"));
    assert!(!home.ok(&["ls", "acme:files"]).stdout.contains("noise"), "one level only");
    assert!(home.ok(&["ls", "-R", "acme"]).stdout.contains("files/deep/noise"));
    home.fails(&["ls", "acme:nothing"], 2, "no such part");
    home.fails(&["cat", "acme:files/none"], 2, "no such entry");
    home.fails(&["cat", "acme"], 2, "no entry is named");
    home.fails(&["points", "amce"], 2, "did you mean `acme`?");
    home.fails(&["points", "globex"], 2, "never backed up");
    home.fails(&["ls", "acme", "--at", "2020-01-01T00:00:00Z"], 10, "no restorable point");
    home.fails(&["ls", "acme", "--at", "2020-01-01T00:00:00"], 2, "needs a zone");
    home.fails(&["ls", "acme", "--at", "2999-01-01T00:00:00Z"], 2, "future");
    home.fails(&["ls", "acme", "--at", "snapshot:0000000000000000"], 2, "no such snapshot");

    let out = home.path("out");
    home.ok(&["restore", "acme", "--export", out.to_str().unwrap(), "--yes"]);
    assert_eq!(std::fs::read_to_string(out.join("files/a.txt")).unwrap(), "hello acme\n");
    assert_eq!(rows(&out.join("notes/notes.db")), 2);
    home.ok(&["restore", "acme", "--beside", "acme-look", "--yes"]);
    assert_eq!(rows(&home.path("srv/acme-look/notes.db")), 2);
    home.fails(&["restore", "acme", "--beside", "acme", "--dry-run"], 2, "needs another name");
    let unsafe_name = home.fails(&["restore", "acme", "--beside", "looks/acme", "--dry-run"], 2, "name=`looks/acme`");
    assert!(unsafe_name.stderr.contains("hint: choose another name for --beside"), "{}", unsafe_name.stderr);
    home.ok(&["backup", "acme-look"]);
    home.fails(&["restore", "acme", "--beside", "acme-look", "--dry-run"], 2, "belongs to another site");
    damage(&home);
    let changes = home.ok(&["diff", "acme", "--json"]);
    assert!(
        changes.events("difference").iter().any(|change| change["path"] == "extra" && change["change"] == "remove")
    );
    let only = home.ok(&["diff", "acme", "--only", "files/deep", "--json"]);
    let paths: Vec<Value> = only.events("difference").iter().map(|change| change["path"].clone()).collect();
    assert!(paths.contains(&"deep/noise".into()), "{paths:?}");
    assert!(!paths.contains(&"a.txt".into()) && !paths.contains(&"extra".into()), "{paths:?}");
}

#[test]
fn the_catalog_changes_no_answer() {
    let home = Home::new();
    home.ok(&["backup", "--all"]);
    damage(&home);
    home.ok(&["restore", "acme", "--yes"]);
    let answers = || {
        ["sites", "points"].map(|verb| {
            let args = if verb == "sites" { vec![verb, "--json"] } else { vec![verb, "acme", "--json"] };
            home.ok(&args).stdout
        })
    };
    let before = answers();
    std::fs::remove_dir_all(home.path("lifeboat.catalog")).unwrap();
    assert_eq!(answers(), before, "deleted");
    home.ok(&["catalog", "rebuild"]);
    assert_eq!(answers(), before, "rebuilt");
    std::fs::write(home.path("lifeboat.catalog/catalog.sqlite"), "garbage".repeat(1000)).unwrap();
    let told = home.ok(&["points", "acme"]);
    assert!(told.stderr.contains("the catalog was set aside"), "{}", told.stderr);
    assert_eq!(answers(), before, "garbage");
    std::fs::remove_dir_all(home.path("lifeboat.catalog")).unwrap();
    std::fs::write(home.path("lifeboat.catalog"), "in the way").unwrap();
    let told = home.ok(&["points", "acme"]);
    assert!(told.stderr.contains("going on without the catalog"), "{}", told.stderr);
    home.ok(&["backup", "--all"]);
}

#[test]
fn a_bucket_that_lost_its_newest_commits_is_found_out() {
    let home = Home::new();
    home.ok(&["backup", "acme"]);
    let before = home.objects("sites");
    std::fs::write(home.path("srv/acme/files/a.txt"), "newer").unwrap();
    home.ok(&["backup", "acme"]);
    for newer in home.objects("sites").into_iter().filter(|object| !before.contains(object)) {
        std::fs::remove_file(newer).unwrap();
    }
    home.fails(&["points", "acme"], 20, "lost its newest commits");
    home.fails(&["catalog", "rebuild"], 20, "lost commits");
    // The run in the bucket tells the same where no catalog is left.
    std::fs::remove_dir_all(home.path("lifeboat.catalog")).unwrap();
    home.fails(&["check"], 20, "lost its newest commits");
}

#[test]
fn damage_is_named_and_never_hidden() {
    let home = Home::new();
    // Too large for the manifest: it gets a pack of its own.
    std::fs::write(home.path("srv/acme/files/deep/noise"), noise("acme", 3_000_000)).unwrap();
    home.ok(&["backup", "--all"]);
    home.ok(&["check", "--read-data"]);
    let pack = home.objects("sites").into_iter().find(|path| path.components().any(|part| part.as_os_str() == "pack"));
    let pack = pack.expect("a pack");
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let ran = home.fails(&["check", "--read-data"], 20, "files/deep/noise");
    assert!(ran.stdout.contains("DAMAGE"), "{}", ran.stdout);
    let done = home.run(&["check", "--read-data", "--json"]).last();
    assert_eq!((done["event"].as_str(), done["exit_code"].as_u64()), (Some("done"), Some(20)));
    assert_eq!(done["failed"][0]["exit_code"].as_u64(), Some(20));
}

#[test]
fn init_never_overwrites_and_goes_on_where_it_was() {
    let home = Home::new();
    let key = std::fs::read(home.path("lifeboat.key")).unwrap();
    home.fails(&["init"], 10, "there is a repository here already");
    home.fails(&["init", "--repo", "file:///elsewhere"], 2, "names another repository");
    // Killed before the configuration was written.
    std::fs::remove_file(home.path("lifeboat.toml")).unwrap();
    let ran = home.ok(&["init"]);
    assert!(ran.stderr.contains("key add --recovery"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("RECOVERY KEY"));
    // Another key must not be written beside a repository that has its own.
    std::fs::remove_file(home.path("lifeboat.toml")).unwrap();
    std::fs::remove_file(home.path("lifeboat.key")).unwrap();
    home.fails(&["init"], 10, "there is a repository here already");
    assert!(!home.path("lifeboat.key").exists() && !home.path("lifeboat.toml").exists());
    drop(key);
    home.fails(&["init", "--repo", "backups"], 2, "not an address of a repository");
    home.fails(&["init", "--repo", "s3://KEY:SECRET@bucket/x"], 2, "credentials do not belong");
}

#[test]
fn keys_are_proven_added_and_replaced() {
    let home = Home::new();
    let verify = |stdin: &str| lifeboat_with(home.dir.path(), &["key", "verify"], stdin);
    assert_eq!(verify("").exit_code, 2);
    let wrong = verify("0000-0000\n");
    assert_eq!(wrong.exit_code, 2, "{}", wrong.stderr);
    assert!(home.ok(&["backup", "acme"]).stderr.contains("no recovery key of this repository was ever read back"));
    let typed = home.recovery.to_lowercase().replace('-', " ");
    let proven = verify(&format!("{typed}\n"));
    assert_eq!(proven.exit_code, 0, "{}", proven.stderr);
    assert!(!home.ok(&["backup", "acme"]).stderr.contains("read back"));

    home.ok(&["key", "add", "second.key"]);
    home.fails(&["key", "add", "second.key"], 2, "opens the repository already");
    home.ok(&["key", "rotate", "third.key"]);
    home.fails(&["sites"], 10, "does not open");
    let config = home.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    for key in ["second.key", "third.key"] {
        std::fs::write(&config, text.replace("lifeboat.key", key)).unwrap();
        home.ok(&["points", "acme"]);
    }
    // Everything else is lost: the recovery key stands in for the master key.
    crate::key_file::write_new_secret(&home.path("paper.key"), &home.recovery).unwrap();
    std::fs::write(&config, text.replace("lifeboat.key", "paper.key")).unwrap();
    home.ok(&["points", "acme"]);
    home.fails(&["key", "rotate", "fourth.key"], 2, "the recovery key");
    let again = home.ok(&["key", "add", "--recovery", "--json"]);
    assert!(again.event("recovery_key")["recovery_key"].as_str().is_some_and(|text| text != home.recovery));
}

#[test]
fn a_person_who_does_not_say_yes_ends_with_130_and_changes_nothing() {
    let home = Home::new();
    home.ok(&["backup", "--all"]);
    damage(&home);
    for (typed, want) in [("n\n", 130), ("\n", 130), ("y\n", 0)] {
        let (streams, captured) = captured_terminal(typed);
        let exit_code = run(&words(&["restore", "acme"]), process(streams, home.dir.path()));
        assert_eq!(exit_code, want, "{typed:?}: {}", captured.stderr());
        assert_eq!(rows(&home.path("srv/acme/notes.db")), if want == 0 { 2 } else { 0 }, "{typed:?}");
    }
}

#[test]
fn what_fails_in_one_site_is_data() {
    let home = Home::new();
    home.ok(&["backup", "--all"]);
    std::fs::remove_file(home.path("srv/globex/notes.db")).unwrap();
    std::fs::write(home.path("srv/globex/notes.db"), "not a database, but long enough to be looked at".repeat(100))
        .unwrap();
    std::fs::write(home.path("srv/acme/files/a.txt"), "changed").unwrap();
    let ran = home.run(&["backup", "--all", "--json"]);
    let done = ran.last();
    assert!(matches!(ran.exit_code, 3 | 10), "{done}");
    assert_eq!(done["failed"][0]["site"].as_str(), Some("globex"), "{done}");
    assert_eq!(
        ran.events("site").iter().find(|site| site["site"] == "acme").unwrap()["outcome"].as_str(),
        Some("published")
    );
    home.fails(&["backup", "nobody"], 2, "no such site");
    std::fs::rename(home.path("srv"), home.path("gone")).unwrap();
    home.fails(&["backup", "--all"], 10, "nothing is published from a source: source=`");
    home.fails(&["sources", "inspect"], 10, "notes");
    home.fails(&["sources", "inspect", "nots"], 2, "did you mean `notes`?");
}

#[test]
fn the_demo_proves_its_story_and_leaves_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let ran = lifeboat_in(dir.path(), &["demo", "--keep", "kept", "--scale", "1", "--json"]);
    assert_eq!(ran.exit_code, 0, "{}", ran.stdout);
    assert_eq!(ran.last()["restores"].as_array().unwrap().len(), 3);
    let kept = dir.path().join("kept");
    let sites = lifeboat_in(&kept, &["sites", "--json"]);
    assert_eq!((sites.exit_code, sites.last()["sites"].as_u64()), (0, Some(50)));
    let again = lifeboat_in(dir.path(), &["demo", "--keep", "kept"]);
    assert_eq!(again.exit_code, 2, "{}", again.stderr);
}

impl Ran {
    fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == name).collect()
    }

    #[track_caller]
    fn event(&self, name: &str) -> Value {
        self.events(name).into_iter().next().unwrap_or_else(|| panic!("no {name}: {}", self.stdout))
    }
}
