//! Measuring whole processes.
//!
//! A measured process is run alone after a `sync`, so that nobody else's dirty pages are written on
//! its time; processor time and peak memory are the kernel's own account of it and of the children
//! it waited for (`wait4`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use wait4::Wait4;

use super::Outcome;

pub use crate::statistics::Spread;

/// How soon a process is asked to end after this one was.
const STOP_POLL: Duration = Duration::from_millis(100);

/// What one process took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub wall_seconds: f64,
    pub user_seconds: f64,
    pub sys_seconds: f64,
    pub peak_bytes: u64,
}

impl Cost {
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.sys_seconds
    }

    /// Without what another process takes that does the same but the work itself.
    pub fn without(&self, start: &Cost) -> Cost {
        Cost {
            wall_seconds: (self.wall_seconds - start.wall_seconds).max(0.0),
            user_seconds: (self.user_seconds - start.user_seconds).max(0.0),
            sys_seconds: (self.sys_seconds - start.sys_seconds).max(0.0),
            peak_bytes: self.peak_bytes,
        }
    }
}

/// Runs a process to its end and gives what it took and what it said on stdout. What it says on
/// stderr is shown only when it fails.
///
/// A child's peak memory cannot be told apart from what this process holds at that moment: it must
/// stay small.
pub fn run(command: &mut Command, scratch: &Path) -> Outcome<(Cost, String)> {
    let (said, complained) = (scratch.join("stdout"), scratch.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&said)?).stderr(File::create(&complained)?);
    rustix::fs::sync();
    let (cost, status) = to_the_end(command, &AtomicBool::new(false))?;
    if !status.success() {
        let text = tail(&complained)? + &tail(&said)?;
        return Err(format!("{command:?}: {status}\n{text}").into());
    }
    Ok((cost, std::fs::read_to_string(&said)?))
}

/// Runs a process whose streams are set to its end, whichever it is. When `stop` is set it is asked to end, by SIGTERM.
///
/// # Errors
/// When it cannot be started.
pub fn to_the_end(command: &mut Command, stop: &AtomicBool) -> io::Result<(Cost, ExitStatus)> {
    let began = Instant::now();
    let child = command.spawn()?;
    let handle = handle_of(&child);
    let has_ended = AtomicBool::new(false);
    let watch = || {
        while !has_ended.load(Ordering::Acquire) && !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(STOP_POLL);
        }
        if let (false, Some(handle)) = (has_ended.load(Ordering::Acquire), &handle) {
            // A process that ended meanwhile is no longer behind its handle, whoever has its number now.
            let _ = rustix::process::pidfd_send_signal(handle, rustix::process::Signal::TERM);
        }
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        let ended = child.wait4();
        let wall_seconds = began.elapsed().as_secs_f64();
        has_ended.store(true, Ordering::Release);
        watcher.thread().unpark();
        let ended = ended?;
        let cost = Cost {
            wall_seconds,
            user_seconds: ended.rusage.utime.as_secs_f64(),
            sys_seconds: ended.rusage.stime.as_secs_f64(),
            peak_bytes: ended.rusage.maxrss,
        };
        Ok((cost, ended.status))
    })
}

/// Without one (an old kernel) the child ends by itself, or by the signal that the terminal sends to all.
pub(crate) fn handle_of(child: &Child) -> Option<OwnedFd> {
    let id = Pid::from_child(child);
    rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()).ok()
}

fn tail(path: &Path) -> Outcome<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(10)..].join("\n"))
}
