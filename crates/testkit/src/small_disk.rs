//! A small file system of its own, to be filled.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Mounted in memory, and unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nothing may be mounted, after saying so; a panic when `CI=true`.
    #[track_caller]
    pub fn mount_or_skip(at: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a directory to mount at");
        let size = format!("size={mebibytes}m,mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stderr(Stdio::null()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing may be mounted here, and CI may not skip");
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // Not println!, which the test harness hides.
        let _ = writeln!(io::stderr(), "SKIPPED ({count} so far): a full disk, because nothing may be mounted here");
        None
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn grow(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let grown = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(grown.is_ok_and(|status| status.success()), "the file system does not grow");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
