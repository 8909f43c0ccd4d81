//! A place to run the binary in: a configuration, a fleet, a repository.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

/// A temporary directory with `lifeboat.toml`, `srv/<site>/…` and (for the embedded default) the
/// repository.
pub struct Place {
    dir: tempfile::TempDir,
    pub envs: Vec<(String, String)>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    /// `url`: where the repository is to be; `None`: a directory beside the configuration.
    pub fn new(url: Option<String>, envs: Vec<(String, String)>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Self { dir, envs };
        let url = url.unwrap_or_else(|| format!("file://{}/repository", place.path("").display()));
        let said = place.run(&["init", "--repo", &url]);
        assert_eq!(said.code, 0, "{said:?}");
        let config = place.path("lifeboat.toml");
        let mut text = std::fs::read_to_string(&config).expect("the configuration");
        let srv = place.path("srv");
        std::fs::create_dir(&srv).expect("a directory");
        let srv = srv.display();
        text.push_str(&format!(
            "\n[sources.notes]\nkind = \"sqlite\"\npath = \"{srv}/{{site}}/notes.db\"\n\
             [sources.files]\nkind = \"files\"\npath = \"{srv}/{{site}}/files\"\n"
        ));
        std::fs::write(&config, text).expect("the configuration");
        place
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).current_dir(self.dir.path()).env_remove("LIFEBOAT_CONFIG");
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A shell in the place.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(self.dir.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().expect("the binary runs"))
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said
    }

    /// A small site.
    pub fn make_site(&self, site: &str) {
        let files = self.path(&format!("srv/{site}/files"));
        std::fs::create_dir_all(files.join("sub")).expect("directories");
        std::fs::write(files.join("a.txt"), format!("{site} says hello\n")).expect("a file");
        std::fs::write(files.join("sub/b.bin"), noise(site.len() as u64, 300_000)).expect("a file");
        make_database(&self.path(&format!("srv/{site}/notes.db")), site, 300);
    }

    /// Everything under a path: kinds, modes, owners, times, links, extended attributes, content.
    pub fn picture(&self, relative: &str) -> BTreeMap<String, String> {
        let mut picture = BTreeMap::new();
        let root = self.path(relative);
        photograph(&root, &root, &mut picture);
        picture
    }
}

impl Said {
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

pub fn make_database(path: &Path, site: &str, rows: u32) {
    let mut connection = rusqlite::Connection::open(path).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)")
        .expect("a table");
    let transaction = connection.transaction().expect("a transaction");
    for id in 0..rows {
        transaction
            .execute("INSERT INTO note VALUES (?1, ?2)", rusqlite::params![id, format!("{site} {id}")])
            .expect("a row");
    }
    transaction.commit().expect("a commit");
}

fn photograph(path: &Path, root: &Path, picture: &mut BTreeMap<String, String>) {
    let meta = std::fs::symlink_metadata(path).expect("an entry");
    let kind = meta.file_type();
    let content = if kind.is_symlink() {
        format!("-> {}", std::fs::read_link(path).expect("a link").display())
    } else if kind.is_dir() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(path).expect("a directory").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| photograph(entry, root, picture));
        "directory".into()
    } else if kind.is_file() {
        let digest = Sha256::digest(std::fs::read(path).expect("a file"));
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("file {} {digest} links {}", meta.len(), meta.nlink())
    } else {
        "other".into()
    };
    let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    let text = format!(
        "{:o} {}:{} {}.{:09} {content} {}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        xattrs(path)
    );
    picture.insert(name, text);
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0u8; 4096];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else { return String::new() };
    let mut text: Vec<String> = Vec::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 4096];
        let name = String::from_utf8_lossy(name).into_owned();
        let len = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap_or(0);
        text.push(format!("{name}={:?}", &value[..len]));
    }
    text.sort();
    text.join(" ")
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// A tree of `files` files with every kind of entry a files source knows.
pub fn make_rich_tree(root: &Path, files: usize) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    std::fs::create_dir_all(root).expect("a directory");
    for number in 0..files {
        let dir = root.join(format!("d{:02}/e{}", number % 50, number % 7));
        std::fs::create_dir_all(&dir).expect("directories");
        std::fs::write(dir.join(format!("f{number}")), noise(number as u64, number % 3000)).expect("a file");
    }
    std::fs::create_dir(root.join("empty-directory")).expect("a directory");
    std::fs::write(root.join("empty"), b"").expect("a file");
    std::fs::write(root.join(OsStr::from_bytes(b"caf\xe9 \n\xff")), b"not UTF-8").expect("a file");
    std::fs::write(root.join("large"), noise(7, 9_000_000)).expect("a file");
    std::os::unix::fs::symlink("d00/e0/f0", root.join("link")).expect("a link");
    std::os::unix::fs::symlink("/no/such/thing", root.join("dangling")).expect("a link");
    std::fs::hard_link(root.join("large"), root.join("large-too")).expect("a hard link");
    let sparse = std::fs::File::create(root.join("sparse")).expect("a file");
    sparse.write_all_at(b"end", 50_000_000).expect("a sparse file");
    sparse.write_all_at(b"middle", 20_000_000).expect("a sparse file");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .expect("a fifo");
    std::fs::set_permissions(root.join("d01"), std::fs::Permissions::from_mode(0o2750)).expect("a mode");
    std::fs::set_permissions(root.join("empty"), std::fs::Permissions::from_mode(0o4711)).expect("a mode");
    let _ = rustix::fs::lsetxattr(root.join("large"), "user.color", b"blue", rustix::fs::XattrFlags::empty());
    // A POSIX ACL as the kernel stores it: user::rwx, user:1234:r--, group::r-x, mask::r-x, other::---.
    let mut acl = vec![2u8, 0, 0, 0];
    for (tag, perm, id) in
        [(1u16, 7u16, u32::MAX), (2, 4, 1234), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let _ = rustix::fs::lsetxattr(root.join("d02"), "system.posix_acl_access", &acl, rustix::fs::XattrFlags::empty());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(root.join("d03"), Some(1234), Some(4321)).expect("an owner");
        std::os::unix::fs::lchown(root.join("link"), Some(1234), Some(4321)).expect("an owner");
    } else {
        eprintln!("SKIPPED (1 so far): owners, because this is not root");
    }
    let old = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 2 },
        last_modification: rustix::fs::Timespec { tv_sec: 981_173_106, tv_nsec: 123_456_789 },
    };
    for path in ["d04", "empty", "link", "large"] {
        rustix::fs::utimensat(rustix::fs::CWD, root.join(path), &old, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .expect("times");
    }
}
