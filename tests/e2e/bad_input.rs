//! Wrong input of every kind: a clear message, the documented exit code, nothing lost.

use super::place::Place;

/// Runs a command that must fail, and gives what it said on stderr.
fn refused(place: &Place, args: &[&str], code: i32, message: &str) {
    let said = place.run(args);
    assert_eq!(said.code, code, "{args:?}: {said:?}");
    assert!(said.err.contains(message), "{args:?} did not say `{message}`: {}", said.err);
    assert!(said.err.contains("hint:"), "{args:?} named no way out: {}", said.err);
    let mut json = args.to_vec();
    json.push("--json");
    let said = place.run(&json);
    let last: serde_json::Value = serde_json::from_str(said.out.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(last["exit_code"], code, "{args:?}: {said:?}");
}

#[test]
fn a_wrong_request_is_refused_by_name() {
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    let before = place.picture("srv");
    refused(&place, &["restore", "amce", "--yes"], 2, "amce");
    refused(&place, &["restore", "acme", "--at", "2024-01-01T00:00:00", "--yes"], 2, "zone");
    refused(&place, &["restore", "acme", "--at", "2001-01-01T00:00:00Z", "--yes"], 10, "no restorable point");
    refused(&place, &["restore", "acme", "--at", "2999-01-01T00:00:00Z", "--yes"], 2, "future");
    refused(&place, &["restore", "acme", "--at", "snapshot:0000000000000000", "--yes"], 2, "0000000000000000");
    refused(&place, &["restore", "acme", "--at", "lsn:0/1", "--yes"], 10, "captured");
    refused(&place, &["restore", "acme", "--only", "nosuch", "--yes"], 2, "nosuch");
    refused(&place, &["restore", "acme", "--only", "files/no/such", "--yes"], 2, "no/such");
    refused(&place, &["restore", "acme", "--plan", "0000000000000000"], 10, "plan");
    std::fs::write(place.path("srv/acme/files/a.txt"), b"damaged").unwrap();
    let before_approval = place.picture("srv");
    refused(&place, &["restore", "acme"], 2, "approve");
    assert_eq!(place.picture("srv"), before_approval);
    place.ok(&["restore", "acme", "--yes"]);
    refused(&place, &["undo", "0000000000000000", "--yes"], 2, "0000000000000000");
    refused(&place, &["cat", "acme:files/nosuch"], 2, "nosuch");
    refused(&place, &["backup", "amce"], 2, "amce");
    refused(&place, &["prune", "amce"], 2, "amce");
    refused(&place, &["forget", "acme", "--snapshot", "0000000000000000", "--yes"], 2, "0000000000000000");
    refused(&place, &["shred", "acme", "--reason", " "], 2, "reason");
    refused(&place, &["hold", "acme", "--note", ""], 2, "why");
    refused(&place, &["undelete", "acme", "--snapshot", "0000000000000000"], 2, "0000000000000000");
    refused(&place, &["init"], 10, "");
    assert_eq!(place.picture("srv"), before);
}

#[test]
fn a_wrong_configuration_or_key_is_refused_by_name() {
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    let config = place.path("lifeboat.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    // The last one: the template's own example comes first, in comments.
    let with = |from: &str, to: &str| {
        let (before, after) = good.rsplit_once(from).unwrap();
        std::fs::write(&config, format!("{before}{to}{after}")).unwrap();
    };
    with("[sources.notes]", "[sources.notes]\npaht = \"x\"");
    refused(&place, &["sites"], 2, "paht");
    with("kind = \"sqlite\"", "kind = \"sqllite\"");
    refused(&place, &["sites"], 2, "sqllite");
    with("kind = \"sqlite\"", "kind = 7");
    refused(&place, &["sites"], 2, "kind");
    with("kind = \"sqlite\"", "kind = \"objects\"");
    refused(&place, &["sites"], 2, "not in this version");
    std::fs::write(&config, &good).unwrap();

    let key = place.path("lifeboat.key");
    let right = std::fs::read(&key).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&place, &["sites"], 10, "chmod");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    refused(&place, &["sites"], 10, "key");
    std::fs::write(&key, right).unwrap();

    let repository = place.path("repository/lifeboat.json");
    let text = std::fs::read_to_string(&repository).unwrap();
    std::fs::write(&repository, text.replacen("\"version\": 1", "\"version\": 9", 1)).unwrap();
    let said = place.run(&["backup", "--all"]);
    assert!([10, 20].contains(&said.code), "{said:?}");
    std::fs::rename(place.path("repository"), place.path("elsewhere")).unwrap();
    refused(&place, &["backup", "--all"], 10, "repository");
}

#[test]
fn a_source_that_is_gone_publishes_nothing() {
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    place.make_site("beta");
    place.ok(&["backup", "--all"]);
    std::fs::rename(place.path("srv"), place.path("unmounted")).unwrap();
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 10, "{said:?}");
    std::fs::create_dir(place.path("srv")).unwrap();
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 10, "an empty mount point is no empty fleet: {said:?}");
    let points = place.ok(&["points", "acme", "--json"]).out;
    assert!(points.lines().filter(|line| line.contains("\"point\"")).count() <= 1, "{points}");
    std::fs::remove_dir(place.path("srv")).unwrap();
    std::fs::rename(place.path("unmounted"), place.path("srv")).unwrap();
    place.ok(&["backup", "--all"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_its_snapshot_is_never_latest() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED (1 so far): an unreadable file, because only root can give one away");
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        return;
    }
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    // An unprivileged user runs the backup, and one file is not hers. Nor may she see the build.
    std::fs::copy(env!("CARGO_BIN_EXE_lifeboat"), place.path("lifeboat")).unwrap();
    let all = std::process::Command::new("chown").args(["-R", "1000:1000"]).arg(place.path("")).status().unwrap();
    assert!(all.success());
    let as_user = |args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=1000", "--regid=1000", "--clear-groups", "--"]).arg(place.path("lifeboat")).args(args);
        command.current_dir(place.path("")).output().unwrap()
    };
    let code = |output: &std::process::Output| output.status.code();
    let first = as_user(&["backup", "--all"]);
    assert_eq!(code(&first), Some(0), "{first:?}");
    use std::os::unix::fs::PermissionsExt;
    let secret = place.path("srv/acme/files/secret");
    std::fs::write(&secret, b"root's own").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let second = as_user(&["backup", "--all"]);
    assert_eq!(code(&second), Some(3), "{second:?}");
    let points = String::from_utf8(as_user(&["points", "acme"]).stdout).unwrap();
    assert!(points.contains("incomplete"), "{points}");
    std::fs::remove_file(place.path("srv/acme/files/a.txt")).unwrap();
    let restored = as_user(&["restore", "acme", "--only", "files/a.txt", "--yes", "--json"]);
    assert_eq!(code(&restored), Some(0), "{restored:?}");
    assert!(place.path("srv/acme/files/a.txt").exists() && secret.exists());
}
