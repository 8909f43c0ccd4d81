//! How far behind a capture is that goes on: from a commit until the server is told that it is durable, which is after the
//! segment was read back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use wait4::Wait4;

use crate::Options;
use crate::captures::Kept;
use crate::report::{Lag, Report, Task};
use crate::work::{CHANGES, Done, Work};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::Cost;

pub const FLUSH: Duration = Duration::from_secs(1);
/// So much of the backlog's end is not looked at twice: the capture gets to the present first.
const READY_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub fn measure(kept: &Kept<'_>, work: &mut Work, options: &Options, report: &mut Report) -> Outcome<()> {
    kept.lifeboat.configure("1s", "8MiB")?;
    let began = Instant::now();
    let child = kept.lifeboat.capturing()?;
    let (rate, before) = (report.received_a_second() / CHANGES as f64 / 2.0, work.count());
    let watched = watch(kept, work, (rate, options.lag));
    rustix::process::kill_process(process_id(&child)?, rustix::process::Signal::TERM)?;
    let ended = child.wait4()?;
    let (steps, seen) = watched?;
    if !ended.status.success() {
        return Err(format!("lifeboat capture: {}", ended.status).into());
    }
    let cost = Cost {
        wall_seconds: began.elapsed().as_secs_f64(),
        user_seconds: ended.rusage.utime.as_secs_f64(),
        sys_seconds: ended.rusage.stime.as_secs_f64(),
        peak_bytes: ended.rusage.maxrss,
    };
    report.add(Task::Follow, "lifeboat", cost);
    let lags = steps.iter().map(|step| lag_of(step, &seen)).collect::<Outcome<Vec<f64>>>()?;
    let done = (work.count() - before) * CHANGES;
    let wanted = rate * CHANGES as f64;
    println!("applications: {:.0} changes/s of {wanted:.0}", done as f64 / options.lag.as_secs_f64());
    report.lag(Lag { seconds: lags, changes_a_second: done as f64 / options.lag.as_secs_f64(), wanted });
    Ok(())
}

/// Confirmed positions, and when each was seen.
type Seen = Vec<(Instant, u64)>;

fn watch(kept: &Kept<'_>, work: &mut Work, (rate, duration): (f64, Duration)) -> Outcome<(Vec<Done>, Seen)> {
    let mut client = Client::connect(&kept.database.url(), NoTls)?;
    let sql = format!(
        "SELECT active, coalesce(confirmed_flush_lsn - '0/0', 0)::bigint FROM pg_replication_slots WHERE slot_name = '{}'",
        kept.slot()
    );
    let mut look = move || -> Result<(bool, u64), postgres::Error> {
        let row = client.query_one(&sql, &[])?;
        Ok((row.get(0), row.get::<_, i64>(1) as u64))
    };
    let began = Instant::now();
    while !look()?.0 {
        if began.elapsed() > READY_MAX {
            return Err("the capture does not begin".into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<Seen, postgres::Error> {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let confirmed = look()?.1;
                seen.push((Instant::now(), confirmed));
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(seen)
        });
        let steps = work.steady(rate, duration);
        std::thread::sleep(FLUSH * 3); // the last of them become durable
        is_over.store(true, Ordering::Relaxed);
        let seen = watcher.join().map_err(|_| "the watcher panicked")??;
        Ok((steps?, seen))
    })
}

fn lag_of(step: &Done, seen: &Seen) -> Outcome<f64> {
    let durable = seen.partition_point(|(_, confirmed)| *confirmed < step.position);
    let (at, _) = seen.get(durable).ok_or("what was committed has not become durable")?;
    Ok(at.saturating_duration_since(step.since).as_secs_f64())
}

fn process_id(child: &std::process::Child) -> Outcome<rustix::process::Pid> {
    Ok(rustix::process::Pid::from_raw(i32::try_from(child.id())?).ok_or("no process id")?)
}
