//! The daemon over the whole fleet: its first nights, of which the first one finds every site new.
//!
//! A night falls each minute; alarms are judged, and points forgotten and pruned, all the time beside it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_bench::Outcome;
use lifeboat_bench::process::to_the_end;
use serde_json::Value;

use crate::Options;
use crate::fleet::Fleet;
use crate::ours::{Lifeboat, Place};
use crate::report::{Report, Task};

const SECTIONS: &str = "\n[policy]\nschedule = \"* * * * *\"\n[alarms]\nevery = \"5s\"\n\
                        [prune]\nevery = \"1m\"\n";
const POLL: Duration = Duration::from_millis(200);
/// After the last night: it looks once more whether there are alarms.
const SETTLE: Duration = Duration::from_secs(6);
/// A night that takes longer than this is not going to end.
const NIGHT_MAX: Duration = Duration::from_secs(20 * 60);

pub fn measure(place: &Place, fleet: &Fleet, options: &Options, report: &mut Report) -> Outcome<()> {
    let name = format!("daemon-{}", place.name());
    let lifeboat = Lifeboat::init((place, &options.dir), &name, &(fleet.source() + SECTIONS))?;
    let (said, complained) = (lifeboat.dir().join("daemon.jsonl"), lifeboat.dir().join("daemon.log"));
    let (mut command, stop) = (lifeboat.command(&["run"]), AtomicBool::new(false));
    command.stdin(Stdio::null()).stdout(fs::File::create(&said)?).stderr(fs::File::create(&complained)?);
    rustix::fs::sync();
    let (ended, watched) = std::thread::scope(|scope| {
        let daemon = scope.spawn(|| to_the_end(&mut command, &stop));
        let watched = watch(&said, fleet.sites, options.nights, || daemon.is_finished());
        stop.store(true, Ordering::Relaxed);
        (daemon.join(), watched)
    });
    let (cost, status) = ended.map_err(|_| "the daemon's thread panicked")??;
    watched.map_err(|why| format!("{why}; its log: {}", complained.display()))?;
    if !status.success() {
        return Err(
            format!("the daemon ended otherwise than asked: {status}; its log: {}", complained.display()).into()
        );
    }
    report.add(Task::Daemon, place.name(), fleet.sites, (cost, None));
    lifeboat.expect_all(fleet.sites).map(|_| ())
}

/// Waits until every site was backed up so many times.
fn watch(said: &Path, sites: usize, nights: usize, has_ended: impl Fn() -> bool) -> Outcome<()> {
    for night in 1..=nights {
        let began = Instant::now();
        while heard(said)? < sites * night {
            if has_ended() || began.elapsed() > NIGHT_MAX {
                return Err(format!("the daemon did not come to the end of night {night} of {nights}").into());
            }
            std::thread::sleep(POLL);
        }
        println!("the daemon: night {night} of {nights} is over");
    }
    std::thread::sleep(SETTLE);
    Ok(())
}

/// Sites that were backed up until now, each as often as it was; one that failed or vanished is an error.
fn heard(said: &Path) -> Outcome<usize> {
    let mut done = 0;
    for line in BufReader::new(fs::File::open(said)?).lines() {
        // The last one may not be whole yet.
        let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
        let number = |key: &str| event[key].as_u64().unwrap_or(0);
        if event["event"] == "backup" {
            done += number("published") + number("unchanged");
            if number("failed") + number("vanished") > 0 {
                return Err(format!("a night of the daemon is not whole: {event}").into());
            }
        }
        if event["event"] == "job" && number("exit_code") != 0 {
            return Err(format!("a job of the daemon failed: {event}").into());
        }
    }
    Ok(done as usize)
}
