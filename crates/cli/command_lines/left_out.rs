//! Customers who are in no snapshot, or whose site is gone: nobody may sleep in silence.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::story::Home;

#[test]
fn a_customer_behind_a_link_or_an_impossible_name_is_told_and_noise_is_not() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("srv/lost+found/files")).unwrap();
    std::fs::create_dir_all(home.path("srv/backups-of-the-office")).unwrap();
    std::fs::write(home.path("srv/README"), "a stray file").unwrap();
    symlink("/nowhere/at/all", home.path("srv/dangling")).unwrap();
    home.ok(&["backup", "--all"]);
    home.ok(&["status"]);

    std::fs::create_dir_all(home.path("real")).unwrap();
    std::fs::rename(home.path("srv/initech"), home.path("real/initech")).unwrap();
    symlink("../real/initech", home.path("srv/moved")).unwrap();
    let ran = home.fails(&["backup", "--all", "--accept-loss"], 3, "1 site is in no snapshot: source=`files`");
    assert!(ran.stderr.contains("srv/moved`, a symbolic link stands on the way"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 site is in no snapshot: source=`notes`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: put what the link leads to in its place"), "{}", ran.stderr);
    home.fails(&["backup", "moved"], 10, "a symbolic link stands on the way");
    home.ok(&["backup", "acme"]);
    home.fails(&["status"], 4, "1 site is in no snapshot: source=`files`");
    let inspected = home.fails(&["sources", "inspect", "files"], 10, "files: 1 sites in no snapshot");
    assert!(inspected.stdout.contains("site in no snapshot: "), "{}", inspected.stdout);
    assert!(inspected.stdout.contains("left out: "), "{}", inspected.stdout);

    std::fs::remove_file(home.path("srv/moved")).unwrap();
    for name in [&b"new\nline"[..], b"caf\xe9"] {
        std::fs::create_dir_all(home.path("srv").join(OsStr::from_bytes(name)).join("files")).unwrap();
    }
    home.fails(&["backup", "--all", "--accept-loss"], 3, "2 sites are in no snapshot: source=`files`");
}

#[test]
fn a_site_that_is_gone_from_its_sources_is_not_as_promised_until_the_loss_is_accepted() {
    let home = Home::new();
    for number in 0..6 {
        let site = home.path(&format!("srv/more-{number}"));
        std::fs::create_dir_all(site.join("files")).unwrap();
        std::fs::copy(home.path("srv/acme/notes.db"), site.join("notes.db")).unwrap();
    }
    home.ok(&["backup", "--all"]);
    home.ok(&["status"]);
    std::fs::create_dir(home.path("aside")).unwrap();
    let (there, aside) = (home.path("srv/initech"), home.path("aside/initech"));
    std::fs::rename(&there, &aside).unwrap();
    // At once, before any run has looked; and after one has.
    let gone = |told: &str| {
        let ran = home.fails(&["status"], 4, told);
        assert!(ran.stdout.contains("gone from its sources"), "{}", ran.stdout);
        assert!(ran.stdout.contains("9 sites, 1 not as promised."), "{}", ran.stdout);
    };
    gone("Gone by mistake: `lifeboat restore initech`.");
    home.fails(&["backup", "--all"], 3, "no source lists the site any more; its points are held");
    gone("On purpose: `lifeboat backup initech --accept-loss`");
    // Another host, which has no sources, believes the newest run.
    let (config, watches) = (home.path("lifeboat.toml"), home.path("watches.toml"));
    let text = std::fs::read_to_string(&config).unwrap();
    let (repository, _) = text.split_once("[sources.notes]").unwrap();
    std::fs::write(&watches, repository).unwrap();
    let watched = home.fails(&["status", "--config", "watches.toml"], 4, "");
    assert!(watched.stdout.contains("9 sites, 1 not as promised."), "{}", watched.stdout);
    std::fs::write(&watches, format!("{repository}\n[policy]\nrpo = \"1s\"\n")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let watched = home.fails(&["status", "--config", "watches.toml"], 4, "");
    assert!(watched.stdout.contains("9 sites, 9 not as promised."), "{}", watched.stdout);
    // A run that could not see all sources forgets nobody.
    std::fs::rename(home.path("srv"), home.path("away")).unwrap();
    home.fails(&["backup", "--all"], 10, "nothing is published from a source: source=`");
    let unsure = home.fails(&["status"], 4, "a source has failed");
    assert!(!unsure.stdout.contains("gone from its sources"), "{}", unsure.stdout);
    std::fs::rename(home.path("away"), home.path("srv")).unwrap();
    gone("Gone by mistake");
    home.fails(&["backup", "--all"], 3, "no source lists the site any more");

    // Accepted once is accepted, also by the nights that follow.
    let accepted = home.ok(&["backup", "--all", "--accept-loss", "--json"]).last();
    assert_eq!((accepted["vanished"].as_u64(), accepted["accepted"].as_u64()), (Some(1), Some(1)), "{accepted}");
    home.ok(&["status"]);
    home.ok(&["backup", "--all"]);
    let all = home.ok(&["status", "--all"]);
    assert!(all.stdout.contains("gone, as accepted"), "{}", all.stdout);
    // Back, and gone again: nobody has accepted that.
    std::fs::rename(&aside, &there).unwrap();
    home.ok(&["backup", "--all"]);
    std::fs::rename(&there, &aside).unwrap();
    gone("Gone by mistake");
    home.fails(&["backup", "--all"], 3, "no source lists the site any more");
    home.ok(&["restore", "initech", "--yes"]);
    home.ok(&["status"]);
    // What was lost of a site before it went is part of what was accepted; a host that knows nothing takes the word, too.
    std::fs::remove_file(home.path("srv/more-1/notes.db")).unwrap();
    home.fails(&["backup", "more-1"], 3, "the snapshot is suspect");
    std::fs::remove_dir_all(home.path("srv/more-1")).unwrap();
    std::fs::remove_dir_all(home.path("lifeboat.catalog")).unwrap();
    home.ok(&["backup", "more-1", "--accept-loss"]);
    home.ok(&["status"]);
    home.fails(&["backup", "nobody", "--accept-loss"], 2, "no such site");
}

#[test]
fn a_new_customer_is_no_alarm_until_the_rpo_has_passed() {
    let home = Home::new();
    let never = home.fails(&["status"], 4, "");
    assert!(never.stdout.contains("acme: it was never backed up"), "{}", never.stdout);
    home.ok(&["backup", "--all"]);
    home.ok(&["status"]);
    std::fs::create_dir_all(home.path("srv/newcomer/files")).unwrap();
    std::fs::copy(home.path("srv/acme/notes.db"), home.path("srv/newcomer/notes.db")).unwrap();
    let new = home.ok(&["status", "--all"]);
    assert!(new.stdout.contains("never backed up"), "{}", new.stdout);
    let config = home.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[policies.strict]\nsites = [\"newcomer\"]\nrpo = \"1s\"\n")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let late = home.fails(&["status"], 4, "");
    assert!(late.stdout.contains("newcomer: it was never backed up"), "{}", late.stdout);
}

#[test]
fn a_night_with_a_source_down_is_over_when_a_later_one_finds_all_as_it_was() {
    let home = Home::new();
    home.ok(&["backup", "--all"]);
    let sites: Vec<_> = std::fs::read_dir(home.path("srv")).unwrap().map(|site| site.unwrap().path()).collect();
    let move_all = |from: &str, to: &str| {
        let there = sites.iter().filter(|site| site.join(from).exists());
        there.for_each(|site| std::fs::rename(site.join(from), site.join(to)).unwrap());
    };
    move_all("notes.db", "away");
    home.fails(&["backup", "--all"], 10, "mend the source that has failed, then `lifeboat backup acme`");
    let down = home.fails(&["status"], 4, "");
    assert!(down.stdout.contains("acme: its newest snapshot is incomplete"), "{}", down.stdout);
    move_all("away", "notes.db");
    home.ok(&["backup", "--all"]);
    home.ok(&["status"]);
}
