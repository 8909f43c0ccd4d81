//! Measuring whole processes.
//!
//! A measured process is run alone after a `sync`, so that nobody else's dirty pages are written on
//! its time; processor time and peak memory are the kernel's own account of it and of the children
//! it waited for (`wait4`).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

use super::Outcome;

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
    let began = Instant::now();
    let ended = command.spawn()?.wait4()?;
    let wall_seconds = began.elapsed().as_secs_f64();
    if !ended.status.success() {
        let text = tail(&complained)? + &tail(&said)?;
        return Err(format!("{command:?}: {}\n{text}", ended.status).into());
    }
    let cost = Cost {
        wall_seconds,
        user_seconds: ended.rusage.utime.as_secs_f64(),
        sys_seconds: ended.rusage.stime.as_secs_f64(),
        peak_bytes: ended.rusage.maxrss,
    };
    Ok((cost, std::fs::read_to_string(&said)?))
}

fn tail(path: &Path) -> Outcome<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(10)..].join("\n"))
}

/// The smallest, the median and the largest of several runs.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        // Of an even number the mean of the two in the middle.
        Self { min: at(0), median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, max: at(last) }
    }

    /// `median (min-max)`.
    pub fn show(&self, decimals: usize) -> String {
        let Self { min, median, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})")
    }
}
