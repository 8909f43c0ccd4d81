//! Which machine and which file system a path lies on.
//!
//! An unmounted disk leaves an empty directory behind; a restored virtual machine image wakes up on
//! other hardware. Both look like a healthy, empty source, so identities are recorded with every
//! snapshot and compared by the engine before anything is concluded or written.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lifeboat_model::PartIdentity;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::error::shown;

/// Identity of `path` where it is or would be: the file system is that of the nearest directory
/// above it that exists.
pub fn identity_of(path: &Path) -> Result<PartIdentity, Error> {
    let mut existing = path;
    loop {
        match rustix::fs::open(existing, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                return Ok(PartIdentity {
                    machine: machine(),
                    filesystem: filesystem(&fd)
                        .map_err(|io| Error::io("cannot identify the file system", bytes(existing), io))?,
                    path: shown(bytes(path)),
                });
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => match existing.parent() {
                Some(parent) => existing = parent,
                None => {
                    return Err(Error::io("cannot identify the file system", bytes(path), rustix::io::Errno::NOENT));
                }
            },
            Err(io) => return Err(Error::io("cannot identify the file system", bytes(existing), io)),
        }
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// The machine's own name for itself, hashed: the raw id is meant to stay private (machine-id(5)).
pub fn machine() -> String {
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty()));
    let digest = Sha256::digest(format!("lifeboat machine\n{}", id.as_deref().unwrap_or("").trim()));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Type and number of the file system, as `statfs` tells them; where it tells none (network file
/// systems), what is mounted there.
pub(crate) fn filesystem(fd: &impl rustix::fd::AsFd) -> rustix::io::Result<String> {
    let kind = rustix::fs::fstatfs(fd)?.f_type;
    let number = rustix::fs::fstatvfs(fd)?.f_fsid;
    if number != 0 {
        return Ok(format!("{kind:x}-{number:016x}"));
    }
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(match mounted(&mounts, stat.stx_mnt_id) {
        Some(source) => format!("{kind:x}-{source}"),
        None => format!("{kind:x}-{}:{}", stat.stx_dev_major, stat.stx_dev_minor),
    })
}

/// `type:source` of a mount, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mounted(mountinfo: &str, mount_id: u64) -> Option<String> {
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(mount_id.to_string().as_str()))?;
    let (_, after) = line.split_once(" - ")?;
    let mut fields = after.split(' ');
    Some(format!("{}:{}", fields.next()?, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_yet_has_the_identity_of_the_file_system_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = identity_of(dir.path()).unwrap();
        let there = identity_of(&dir.path().join("a/b")).unwrap();
        assert_eq!((&here.machine, &here.filesystem), (&there.machine, &there.filesystem));
        assert_ne!(here.path, there.path);
        assert_eq!(here.machine.len(), 32);
    }

    #[test]
    fn another_mount_is_another_file_system() {
        assert_ne!(
            identity_of(Path::new("/proc")).unwrap().filesystem,
            identity_of(Path::new("/etc")).unwrap().filesystem
        );
    }

    #[test]
    fn a_network_mount_is_known_by_its_source() {
        let text =
            "36 35 98:0 / /mnt1 rw,noatime master:1 - ext3 /dev/root rw\n40 35 0:50 / /nfs rw - nfs4 server:/export rw";
        assert_eq!(mounted(text, 40), Some("nfs4:server:/export".into()));
        assert_eq!(mounted(text, 4), None);
    }
}
