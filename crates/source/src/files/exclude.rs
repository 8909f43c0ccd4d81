//! What a part leaves out because another source owns it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_model::{EntryPath, SiteId};

use crate::PathTemplate;

/// One thing to leave out of every site's part; what lies elsewhere is no matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exclusion {
    /// A file or a whole directory: the part of another source.
    Tree(PathTemplate),
    /// An SQLite database with its `-wal`, `-shm` and `-journal`.
    Database(PathTemplate),
    /// One absolute path, the same for every site.
    Path(PathBuf),
}

impl Exclusion {
    /// The paths inside `part` that these exclusions leave out for a site.
    pub fn within(exclusions: &[Exclusion], site: &SiteId, part: &Path) -> Vec<EntryPath> {
        let mut paths = Vec::new();
        for exclusion in exclusions {
            // A site whose id cannot stand in the other template has no part there.
            match exclusion {
                Exclusion::Tree(template) => {
                    paths.extend(template.path_for(site).ok().and_then(|path| inside(&path, part, "")));
                }
                Exclusion::Database(template) => {
                    let Ok(path) = template.path_for(site) else { continue };
                    paths.extend(["", "-wal", "-shm", "-journal"].iter().filter_map(|end| inside(&path, part, end)));
                }
                Exclusion::Path(path) => paths.extend(inside(path, part, "")),
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }
}

/// `path` with `ending`, relative to `part`; `None` when it is not inside.
fn inside(path: &Path, part: &Path, ending: &str) -> Option<EntryPath> {
    let mut bytes = path.strip_prefix(part).ok()?.as_os_str().as_bytes().to_vec();
    bytes.extend_from_slice(ending.as_bytes());
    EntryPath::new(bytes).ok().filter(|path| !path.is_root())
}

/// The excluded paths of one part, for a quick answer a million times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Excluded(HashSet<EntryPath>);

impl Excluded {
    pub fn new(paths: Vec<EntryPath>) -> Self {
        Self(paths.into_iter().collect())
    }

    pub fn holds(&self, path: &EntryPath) -> bool {
        !self.0.is_empty() && self.0.contains(path)
    }
}

/// Whether a name is one of Lifeboat's own staging directories, which no backup holds: a restore
/// that was killed leaves one behind, in the part or beside it.
///
/// Exactly `.lifeboat-stage-<16 hex>` or `.lifeboat-<16 hex>-<16 hex>`: anything looser could hide
/// a file of the operator's.
pub(crate) fn is_staging(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b".lifeboat-") else { return false };
    let hex = |text: &[u8]| text.len() == 16 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match rest.strip_prefix(b"stage-") {
        Some(id) => hex(id),
        None => rest.len() == 33 && rest[16] == b'-' && hex(&rest[..16]) && hex(&rest[17..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_left_out_with_everything_sqlite_keeps_beside_it() {
        let template = |text: &str| PathTemplate::parse(text).unwrap();
        let site = SiteId::new("acme").unwrap();
        let part = Path::new("/srv/sites/acme");
        let check = |exclusion: Exclusion, want: &[&str]| {
            let got: Vec<String> =
                Exclusion::within(&[exclusion], &site, part).iter().map(ToString::to_string).collect();
            assert_eq!(got, want);
        };
        check(
            Exclusion::Database(template("/srv/sites/{site}/db/notes.db")),
            &["db/notes.db", "db/notes.db-journal", "db/notes.db-shm", "db/notes.db-wal"],
        );
        check(Exclusion::Tree(template("/srv/sites/{site}/cache")), &["cache"]);
        check(Exclusion::Tree(template("/srv/sites/{site}")), &[]);
        check(Exclusion::Tree(template("/srv/other/{site}/cache")), &[]);
        check(Exclusion::Path("/srv/sites/acme/tmp".into()), &["tmp"]);
        check(Exclusion::Path("/srv/sites/zeta/tmp".into()), &[]);
    }

    #[test]
    fn only_exact_staging_names_are_ours() {
        let check = |name: &str, want: bool| assert_eq!(is_staging(name.as_bytes()), want, "{name}");
        check(".lifeboat-stage-0123456789abcdef", true);
        check(".lifeboat-0123456789abcdef-0123456789abcdef", true);
        check(".lifeboat-stage-0123456789abcdeg", false);
        check(".lifeboat-notes", false);
        check(".lifeboat-0123456789abcdef_0123456789abcdef", false);
        check("lifeboat.toml", false);
    }
}
