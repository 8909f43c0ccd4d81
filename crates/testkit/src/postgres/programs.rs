//! Where the server's programs are, and who may run them.

use std::fs;
use std::path::{Path, PathBuf};

/// The major version that is taken when there are several.
const PREFERRED: &str = "15";
const HINT: &str = "install the package `postgresql`, or name its bin directory in LIFEBOAT_PG_BIN";

/// An unprivileged user, when we are root.
#[derive(Debug, Clone)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// `None`: we are not root, the cluster is ours.
    pub fn needed() -> Result<Option<Owner>, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let owner = ["postgres", "nobody"].iter().find_map(|name| find_user(&users, name));
        owner.map(Some).ok_or_else(|| "root may not run it, and there is no user `postgres` or `nobody`".to_owned())
    }
}

/// Lines of passwd(5): name, password, uid, gid, …
fn find_user(users: &str, wanted: &str) -> Option<Owner> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (name == wanted).then_some(Owner { uid, gid })
    })
}

/// The directory with `initdb`, `postgres`, `pg_ctl`.
pub fn find_programs() -> Result<PathBuf, String> {
    match std::env::var_os("LIFEBOAT_PG_BIN") {
        Some(bin) if bin == "off" => return Err("turned off by LIFEBOAT_PG_BIN=off".to_owned()),
        Some(bin) => {
            let bin = PathBuf::from(bin);
            return if is_complete(&bin) {
                Ok(bin)
            } else {
                Err("LIFEBOAT_PG_BIN has no initdb and pg_ctl".to_owned())
            };
        }
        None => {}
    }
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<String> = installed.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    versions.sort_by_key(|version| (version != PREFERRED, std::cmp::Reverse(version.parse::<u32>().unwrap_or(0))));
    let installed = versions.iter().map(|version| Path::new("/usr/lib/postgresql").join(version).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = installed.chain(std::env::split_paths(&path)).find(|bin| is_complete(bin));
    found.ok_or_else(|| format!("its programs are not there: {HINT}"))
}

fn is_complete(bin: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|program| bin.join(program).is_file())
}

#[test]
fn a_user_is_found_by_its_whole_name() {
    let users = "root:x:0:0:root:/root:/bin/sh\npostgresx:x:7:8::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/bash\n";
    let found = find_user(users, "postgres").expect("is there");
    assert_eq!((found.uid, found.gid), (101, 104));
    assert!(find_user(users, "nobody").is_none());
}
