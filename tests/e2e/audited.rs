//! The audit log, as the built binary writes and proves it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lifeboat_testkit::s3_server::{ACCESS_KEY, READER_ACCESS_KEY, READER_SECRET_KEY, S3Server, SECRET_KEY};
use lifeboat_testkit::small_disk::SmallDisk;
use serde_json::Value;

use super::place::{Place, Said, noise};

/// What nobody may find in an entry: content, names of entries, values of options.
const SECRETS: [&str; 7] = ["says hello", "a.txt", "b.bin", "elsewhere", "hunter2", "new.key", "because"];

/// Entries, oldest first.
fn entries(place: &Place) -> Vec<Value> {
    let said = place.ok(&["audit", "list", "--json", "--since", "1d"]);
    let lines = said.out.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut entries: Vec<Value> = lines.filter(|line: &Value| line["event"] == "entry").collect();
    entries.reverse();
    entries
}

/// Command, action and sites of those behind the first `skip`.
fn told(place: &Place, skip: usize) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tell = |entry: &Value| {
        let sites: Vec<String> = entry["sites"].as_array().unwrap().iter().map(text).collect();
        format!("{} {} [{}]", text(&entry["command"]), text(&entry["action"]), sites.join(" "))
    };
    entries(place).iter().skip(skip).map(tell).collect()
}

fn fresh() -> Place {
    let place = Place::new(None, Vec::new());
    ["acme", "beta"].iter().for_each(|site| place.make_site(site));
    place.ok(&["backup", "--all"]);
    place
}

fn last(said: &Said) -> Value {
    serde_json::from_str(said.out.lines().last().unwrap()).unwrap()
}

#[test]
fn every_verb_that_reads_or_restores_leaves_its_entry_and_none_holds_a_secret() {
    let place = fresh();
    assert_eq!(told(&place, 0), Vec::<String>::new(), "a backup is its run");
    let mut written = 0;
    let mut check = |args: &[&str], want: &[&str]| {
        let said = place.ok(args);
        assert_eq!(told(&place, written), want, "{args:?}");
        written += want.len();
        said
    };
    check(&["ls", "acme:files"], &["ls read [acme]"]);
    check(&["cat", "acme:files/a.txt"], &["cat read [acme]"]);
    check(&["diff", "acme"], &["diff read [acme]"]);
    check(&["find-damage", "--since", "1h"], &["find-damage read []"]);
    check(&["sites"], &[]);
    check(&["restore", "acme", "--export", "elsewhere", "--yes"], &["restore read [acme]"]);
    check(&["restore", "acme", "--beside", "hunter2", "--yes"], &["restore began [acme]", "restore ended [acme]"]);
    std::fs::remove_file(place.path("srv/acme/files/a.txt")).unwrap();
    check(&["restore", "acme", "--dry-run"], &["restore planned [acme]"]);
    let said = check(&["restore", "acme", "--yes", "--json"], &["restore began [acme]", "restore ended [acme]"]);
    let restore = last(&said)["restore_id"].as_str().unwrap().to_owned();
    check(&["undo", &restore, "--yes"], &["undo began [acme]", "undo ended [acme]"]);
    let sites = ["acme", "beta", "--expect", "2", "--at", "latest", "-o", "hunter2"];
    let said = check(
        &["recover", "plan", "--json"].iter().chain(&sites).copied().collect::<Vec<_>>(),
        &["recover plan planned [acme beta]"],
    );
    let recovery = last(&said)["recovery_id"].as_str().unwrap().to_owned();
    let skip = ["recover skip began [beta]", "recover skip ended [beta]"];
    check(&["recover", "skip", &recovery, "beta", "--reason", "because"], &skip);
    let ran = ["approved", "began", "ended"].map(|action| format!("recover run {action} [acme beta]"));
    check(&["recover", "run", &recovery, "--yes"], &ran.each_ref().map(String::as_str));
    check(&["drill", "beta"], &["drill began [beta]", "drill ended [beta]"]);
    check(&["hold", "beta", "--note", "because"], &["hold began [beta]", "hold hold placed [beta]"]);
    check(&["hold", "beta", "--release"], &["hold began [beta]", "hold hold released [beta]"]);
    check(&["forget", "acme", "--dry-run"], &["forget planned []"]);
    check(&["prune"], &["prune planned [acme beta]"]);
    check(&["prune", "acme", "--yes"], &["prune began [acme]", "prune pruned [acme]"]);
    check(&["key", "add", "new.key"], &["key add began []", "key add key added []"]);
    check(&["key", "add", "--recovery"], &["key add began []", "key add key added []"]);
    check(&["key", "verify", "--recovery-key-file", "new.key"], &["key verify began []", "key verify key used []"]);
    place.ok(&["key", "rotate", "hunter2.key"]);
    std::fs::copy(place.path("hunter2.key"), place.path("lifeboat.key")).unwrap();
    assert_eq!(told(&place, written), ["key rotate began []", "key rotate key rotated []"]);
    written += 2;

    let all = entries(&place);
    assert_eq!(all.len(), written);
    for entry in &all {
        let text = entry.to_string();
        SECRETS.iter().for_each(|secret| assert!(!text.contains(secret), "{secret}: {text}"));
        let is_closing = !entry["closes"].is_null();
        assert_eq!(is_closing, !entry["exit_code"].is_null() && entry["action"] != "began", "{text}");
        assert_eq!(entry["open"], false, "{text}");
    }
    let ended = all.iter().rfind(|entry| entry["command"] == "undo").unwrap();
    let targets: Vec<&str> = ended["targets"].as_array().unwrap().iter().map(|t| t["kind"].as_str().unwrap()).collect();
    assert_eq!(targets, ["restore", "plan", "snapshot", "restore"], "{ended}");
    assert_eq!(ended["options"], serde_json::json!(["--yes"]));
    let details = |command: &str| all.iter().rfind(|entry| entry["command"] == command).unwrap()["details"].clone();
    assert_eq!(
        (details("recover run"), details("undo")),
        ("1 of 2 sites restored".into(), "0 written, 1 removed".into())
    );
    let beta = place.ok(&["audit", "list", "--json", "--site", "beta"]);
    assert_eq!(last(&beta)["entries"], 13, "{beta:?}");
    assert_eq!(place.ok(&["audit", "list", "--limit", "3"]).out.lines().count(), 4);
    assert!(place.ok(&["audit", "list", "-v"]).out.contains(&format!("recovery {recovery}")));
    let proven = last(&place.ok(&["audit", "verify", "--json"]));
    assert_eq!((&proven["entries"], &proven["seen_before"]), (&written.into(), &written.into()));
}

#[test]
fn a_loss_that_is_accepted_has_whose_word_that_is() {
    let place = Place::new(None, Vec::new());
    let sites: Vec<String> = (0..6).map(|number| format!("site-{number}")).collect();
    sites.iter().for_each(|site| place.make_site(site));
    place.ok(&["backup", "--all"]);
    std::fs::remove_dir_all(place.path("srv/site-4")).unwrap();
    assert_eq!(place.run(&["backup", "--all"]).code, 3);
    assert_eq!(told(&place, 0), Vec::<String>::new());
    place.ok(&["backup", "--all", "--accept-loss"]);
    assert_eq!(told(&place, 0), ["backup began []", "backup loss accepted [site-4]"]);
    assert_eq!(entries(&place)[1]["options"], serde_json::json!(["--accept-loss", "--all"]));
}

#[test]
fn a_verb_that_fails_says_so_in_its_closing_entry() {
    let place = fresh();
    assert_eq!(place.run(&["restore", "acme", "--plan", "0123456789"]).code, 10);
    let all = entries(&place);
    assert_eq!(told(&place, 0), ["restore began [acme]", "restore ended [acme]"]);
    assert_eq!((&all[0]["exit_code"], &all[1]["exit_code"]), (&10.into(), &10.into()));
    assert_eq!(all[1]["closes"], 1);
}

#[test]
fn an_entry_that_was_edited_copied_or_removed_is_named() {
    let place = fresh();
    for _ in 0..4 {
        place.ok(&["ls", "acme"]);
    }
    let object = |number: u64| format!("audit/{:020}", u64::MAX - number);
    let path = |number: u64| place.path("repository").join(object(number));
    let check = |number: u64, what: &str| {
        let said = place.run(&["audit", "verify"]);
        assert_eq!(said.code, 20, "{what} {number}: {said:?}");
        assert!(said.err.contains(&object(number)), "{what} {number}: {said:?}");
        assert_eq!(said.err.matches("the audit log is damaged").count(), 1, "{what} {number}: {said:?}");
    };
    for number in 1..=4 {
        let good = std::fs::read(path(number)).unwrap();
        let mut edited = good.clone();
        edited[160] ^= 1;
        std::fs::write(path(number), edited).unwrap();
        check(number, "edited");
        assert_eq!(place.run(&["audit", "list"]).code, 20);
        std::fs::copy(path(if number == 2 { 3 } else { 2 }), path(number)).unwrap();
        check(number, "copied");
        std::fs::remove_file(path(number)).unwrap();
        check(number, "removed");
        std::fs::write(path(number), &good).unwrap();
        place.ok(&["audit", "verify"]);
    }
    // The newest one gone: this host remembers it, and nothing is written in its place.
    std::fs::remove_file(path(4)).unwrap();
    assert_eq!(place.run(&["audit", "list"]).code, 20);
    assert_eq!(place.run(&["catalog", "rebuild"]).code, 20);
    let said = place.ok(&["ls", "acme"]);
    assert!(said.err.contains("THE AUDIT LOG HAS LOST ITS NEWEST ENTRIES"), "{said:?}");
    assert!(path(5).exists() && !path(4).exists());
    check(4, "removed, and gone on");
}

#[test]
fn of_processes_that_append_at_once_none_is_lost() {
    let place = fresh();
    let spawn = |_| place.command(&["ls", "acme"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..3 {
        let mut children: Vec<Child> = (0..6).map(spawn).collect();
        children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    }
    assert_eq!(told(&place, 0), ["ls read [acme]"; 18]);
    place.ok(&["audit", "verify"]);
}

// Explains invariant: logged-first
#[test]
fn what_cannot_be_logged_is_not_begun_and_what_is_read_unlogged_is_said_loudly() {
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount_or_skip(&outer.path().join("disk"), 4) else { return };
    let place = Place::new(Some(format!("file://{}/repository", disk.path().display())), Vec::new());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    std::fs::write(disk.path().join("filler"), noise(3, 8 << 20)).unwrap_err();
    std::fs::remove_dir_all(place.path("srv/acme/files")).unwrap();
    let damaged = place.picture("srv/acme");
    for args in [&["restore", "acme", "--yes"] as &[&str], &["key", "add", "new.key"], &["drill", "acme"]] {
        let said = place.run(args);
        assert_eq!(said.code, 10, "{args:?}: {said:?}");
        assert!(said.err.contains("nothing was done, for it cannot be written into the audit log"), "{said:?}");
    }
    assert_eq!(place.picture("srv/acme"), damaged);
    for args in [&["ls", "acme"] as &[&str], &["restore", "acme", "--dry-run"]] {
        let said = place.ok(args);
        assert!(said.err.contains("NOT IN THE AUDIT LOG"), "{args:?}: {said:?}");
    }
    drop(disk);
}

#[test]
fn a_credential_that_may_only_read_reads_and_is_told_that_it_is_not_logged() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED (1 so far): another user's process, because this is not root");
        return;
    }
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    let nobody = 65_534;
    let run = |script: &str| assert!(place.shell(script).status().unwrap().success(), "{script}");
    run("chown -R 65534:65534 srv");
    place.ok(&["backup", "--all"]);
    run("chmod 755 . && chmod -R a+rX repository && chown -R 65534 lifeboat.key lifeboat.catalog && mkdir -m 777 out");
    let as_nobody = |args: &[&str]| Said::of(place.command(args).uid(nobody).gid(nobody).output().unwrap());
    for args in [&["cat", "acme:files/a.txt"] as &[&str], &["restore", "acme", "--export", "out/1", "--yes"]] {
        let said = as_nobody(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        assert!(said.err.contains("NOT IN THE AUDIT LOG"), "{args:?}: {said:?}");
    }
    let said = as_nobody(&["restore", "acme", "--yes"]);
    assert!(said.code == 10 && said.err.contains("cannot be written into the audit log"), "{said:?}");
    assert_eq!(told(&place, 0), Vec::<String>::new());
}

#[test]
fn a_credential_of_a_bucket_that_may_only_read_reads_unlogged_and_those_that_may_write_append_one_behind_the_other() {
    let name = "a_credential_of_a_bucket_that_may_only_read_reads_unlogged";
    let Some(server) = S3Server::shared_or_skip(name) else { return };
    let credentials = |access: &str, secret: &str| {
        let pair = [("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)];
        pair.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let mut place = Place::new(Some(server.fresh_url().unwrap()), credentials(ACCESS_KEY, SECRET_KEY));
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    let spawn = |_| place.command(&["ls", "acme"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut children: Vec<Child> = (0..4).map(spawn).collect();
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    place.envs = credentials(READER_ACCESS_KEY, READER_SECRET_KEY);
    std::fs::remove_dir_all(place.path("srv/acme")).unwrap();
    let said = place.ok(&["cat", "acme:files/a.txt"]);
    assert!(said.err.contains("NOT IN THE AUDIT LOG") && said.out.contains("acme says hello"), "{said:?}");
    let said = place.run(&["restore", "acme", "--yes"]);
    assert!(said.code == 10 && said.err.contains("cannot be written into the audit log"), "{said:?}");
    assert!(!place.path("srv/acme").exists());
    assert_eq!(told(&place, 0), ["ls read [acme]"; 4]);
    place.ok(&["audit", "verify"]);
}

#[test]
fn a_process_that_was_killed_leaves_its_action_open() {
    let place = fresh();
    let config = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!(
            "{text}\n[hooks]\nfreeze = [\"sh\", \"-c\", \"sleep 600\", \"{{site}}\"]\nthaw = [\"true\", \"{{site}}\"]\n"
        ),
    )
    .unwrap();
    std::fs::remove_file(place.path("srv/acme/files/a.txt")).unwrap();
    let mut restore = place.command(&["restore", "acme", "--yes"]);
    let mut child = restore.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while told(&place, 0).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(50));
    }
    let state = || entries(&place).into_iter().map(|entry| (entry["open"].clone(), entry["process_gone"].clone()));
    assert_eq!(state().collect::<Vec<_>>(), [(true.into(), false.into())]);
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(state().collect::<Vec<_>>(), [(true.into(), true.into())]);
    let said = place.ok(&["audit", "list"]);
    assert!(said.out.contains("OPEN, its process is gone"), "{said:?}");
    place.ok(&["audit", "verify"]);
}
