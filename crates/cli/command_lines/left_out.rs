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

    std::fs::create_dir_all(home.path("real")).unwrap();
    std::fs::rename(home.path("srv/initech"), home.path("real/initech")).unwrap();
    symlink("../real/initech", home.path("srv/moved")).unwrap();
    let ran = home.fails(&["backup", "--all", "--accept-loss"], 3, "1 site is in no snapshot: source=`files`");
    assert!(ran.stderr.contains("srv/moved`, a symbolic link stands on the way"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 site is in no snapshot: source=`notes`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: put what the link leads to in its place"), "{}", ran.stderr);
    home.fails(&["backup", "moved"], 10, "a symbolic link stands on the way");
    home.ok(&["backup", "acme"]);
    let inspected = home.fails(&["sources", "inspect", "files"], 10, "files: 1 sites in no snapshot");
    assert!(inspected.stdout.contains("site in no snapshot: "), "{}", inspected.stdout);
    assert!(inspected.stdout.contains("left out: "), "{}", inspected.stdout);

    std::fs::remove_file(home.path("srv/moved")).unwrap();
    for name in [&b"new\nline"[..], b"caf\xe9"] {
        std::fs::create_dir_all(home.path("srv").join(OsStr::from_bytes(name)).join("files")).unwrap();
    }
    home.fails(&["backup", "--all", "--accept-loss"], 3, "2 sites are in no snapshot: source=`files`");
}
