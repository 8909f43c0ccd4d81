//! The tree as the rules see it: every file that belongs to the project, read once.

use std::fs;
use std::path::Path;

/// A file of the project.
pub struct File {
    /// Relative to the root, `/`-separated.
    pub path: String,
    pub bytes: Vec<u8>,
    pub executable: bool,
}

impl File {
    /// The content, where it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the whole file is there for tests alone.
    pub fn is_test(&self) -> bool {
        self.name() == "tests.rs" || self.path.split('/').any(|folder| folder == "tests" || folder == "benches")
    }
}

/// All files, sorted by path.
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the project this test was built from.
    pub fn read() -> Self {
        let mut files = Vec::new();
        visit(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// A tree for the rules' own tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            bytes: text.as_bytes().to_vec(),
            executable: false,
        };
        Self { files: files.iter().map(file).collect() }
    }

    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The text of a file; empty when it is missing, which the rule about pages reports.
    pub fn text(&self, path: &str) -> &str {
        self.get(path).and_then(File::text).unwrap_or_default()
    }

    pub fn rust(&self) -> impl Iterator<Item = (&File, &str)> {
        self.files.iter().filter(|file| file.is_rust()).filter_map(|file| Some((file, file.text()?)))
    }

    /// Whether something is at this path: a file, or a folder that holds one.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty() || self.get(path).is_some() || self.files.iter().any(|file| file.path.starts_with(&folder))
    }

    /// The folders directly in the root.
    pub fn folders(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.files.iter().filter_map(|file| Some(file.path.split_once('/')?.0)).collect();
        names.dedup();
        names
    }

    /// The folder names directly in `crates/`.
    pub fn crates(&self) -> Vec<&str> {
        let manifests = self.files.iter().filter_map(|file| file.path.strip_prefix("crates/"));
        manifests.filter_map(|path| path.strip_suffix("/Cargo.toml")).collect()
    }
}

/// What `.gitignore` keeps out. `target` is what cargo builds only in the root: modules may be called so.
fn is_left_out(prefix: &str, name: &str) -> bool {
    matches!(name, ".git" | "lifeboat.key" | "lifeboat.toml")
        || name.ends_with(".catalog")
        || (prefix.is_empty() && name == "target")
}

fn visit(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().unwrap_or_else(|error| panic!("cannot look at {name}: {error}"));
        if is_left_out(prefix, &name) {
            continue;
        }
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if kind.is_dir() {
            visit(&entry.path(), &path, files);
        } else if kind.is_file() {
            // A file that an editor removes between the listing and the read is no file of ours.
            let Ok(bytes) = fs::read(entry.path()) else { continue };
            files.push(File { executable: is_executable(&entry.path()), path, bytes });
        }
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}
