//! Which processes have a file open, as far as the kernel lets us see.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sqlite::stat::FileStat;

/// Who has a file open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    /// `pid` and the command's name, each process once.
    pub processes: Vec<(u32, String)>,
    /// Processes whose open files we may not see: they prove nothing.
    pub hidden: usize,
}

impl Holders {
    /// Nobody, for certain (on this machine: a network file system's other clients are not seen).
    pub fn is_proven_free(&self) -> bool {
        self.processes.is_empty() && self.hidden == 0
    }

    pub fn describe(&self) -> String {
        if self.processes.is_empty() {
            return format!("the open files of {} processes cannot be seen; only root can", self.hidden);
        }
        let names: Vec<String> = self.processes.iter().map(|(pid, name)| format!("{name} (pid {pid})")).collect();
        format!("it is open in {}", names.join(", "))
    }
}

/// Every process that has this very file open, whatever name it has now.
pub(super) fn holders_of(file: &FileStat) -> Holders {
    scan(|link| std::fs::metadata(link).is_ok_and(|open| (open.dev(), open.ino()) == (file.device, file.inode)))
}

/// Processes that still have a removed file open that once had this name: they go on writing into
/// nowhere until they open the database anew.
pub(super) fn holders_of_removed(path: &Path) -> Holders {
    let mut wanted = path.as_os_str().as_bytes().to_vec();
    wanted.extend_from_slice(b" (deleted)");
    scan(|link| std::fs::read_link(link).is_ok_and(|target| target.as_os_str().as_bytes() == wanted))
}

fn scan(is_wanted: impl Fn(&Path) -> bool) -> Holders {
    let mut holders = Holders::default();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Holders { processes: Vec::new(), hidden: 1 };
    };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let open = match std::fs::read_dir(process.path().join("fd")) {
            Ok(open) => open,
            // It ended while we looked.
            Err(io) if io.kind() == ErrorKind::NotFound || io.raw_os_error() == Some(SEARCH) => continue,
            Err(_) => {
                holders.hidden += 1;
                continue;
            }
        };
        if open.flatten().any(|link| is_wanted(&link.path())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            holders.processes.push((pid, name.trim().to_owned()));
        }
    }
    holders
}

/// ESRCH: no such process.
const SEARCH: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::stat::file_stat;

    #[test]
    fn a_file_is_known_as_open_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = std::fs::File::create(&path).unwrap();
        let stat = file_stat(&path).unwrap().unwrap();
        let own = std::process::id();
        let is_held = |holders: &Holders| holders.processes.iter().any(|(pid, _)| *pid == own);
        assert!(is_held(&holders_of(&stat)));
        assert!(holders_of(&stat).describe().contains("open in"));
        drop(file);
        // While the file is there, nobody else's can have its number.
        assert!(!is_held(&holders_of(&stat)));
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let path = dir.path().canonicalize().unwrap().join("f");
        assert!(is_held(&holders_of_removed(&path)));
        drop(file);
        assert!(!is_held(&holders_of_removed(&path)));
    }
}
