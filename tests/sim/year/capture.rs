//! Following the made-up database: what a capture process does when its turn comes.
//!
//!   open the log, which has all that this host knows of ─▶ go on where it ends, or begin an epoch ─▶ append ─▶ compact
//!
//! It dies like everything else, and two hosts may do it at once: then one of them is fenced.

use lifeboat_model::{EpochFacts, EpochId, EpochReason, SegmentNumber, SourceKind, Timestamp};
use lifeboat_repo::{Appender, ChangeLog, Error, KnownLog, SegmentDraft};
use lifeboat_testkit::world::site_id;

use super::app::{App, Committed, SYSTEM, source, table};
use super::host::Host;
use super::ledger::Ledger;

/// What one visit is to do; a seed has chosen.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Sealed by itself each time that so many transactions are there.
    pub segment: usize,
    /// Somebody asks for another epoch: what was not captured till now never will be.
    pub begins_anew: bool,
    pub compacts: Compacts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacts {
    No,
    Due,
    /// So many of the newest segments, from so far behind the newest.
    Range {
        behind: u64,
        count: u64,
    },
}

/// One visit; whoever is fenced has done his part.
pub async fn capture(host: &Host, (app, ledger): (&App, &Ledger), now: Timestamp, visit: Visit) -> Result<(), Error> {
    match follow(host, (app, ledger), now, visit).await {
        Err(Error::LogFenced { .. }) => {
            ledger.count(|counts| counts.fenced += 1);
            Ok(())
        }
        other => other,
    }
}

async fn follow(host: &Host, (app, ledger): (&App, &Ledger), now: Timestamp, visit: Visit) -> Result<(), Error> {
    let log = ChangeLog::open(&host.repository, &source()).await?;
    let known = *host.known_log();
    if let Some(known) = known {
        log.check_known(&known).await?;
    }
    let open = if visit.begins_anew { None } else { log.appender().await? };
    let mut appender = match open {
        Some(appender) => appender,
        None => begin_epoch(&log, (app, ledger), now).await?,
    };
    host.known_log().replace(appender.known());
    append(&mut appender, (host, app, ledger), now, visit.segment).await?;
    compact(&log, (appender.epoch().id, appender.known()), (now, visit.compacts), ledger).await
}

async fn begin_epoch(log: &ChangeLog, (app, ledger): (&App, &Ledger), now: Timestamp) -> Result<Appender, Error> {
    let (begins, snapshot) = app.begin_following();
    let facts = EpochFacts {
        source: source(),
        kind: SourceKind::Postgres,
        system_identifier: SYSTEM.into(),
        timeline: 1,
        slot: "lifeboat_app".into(),
        database: "app".into(),
        begins,
        snapshot,
        begun_at: now,
        why: EpochReason::Asked,
        note: String::new(),
        sound_till: None,
        partly: Vec::new(),
    };
    let appender = log.begin_epoch(facts, &lifeboat_engine::this_process()).await?;
    ledger.epoch_begun(appender.epoch());
    Ok(appender)
}

/// Appends all that was committed since.
async fn append(
    appender: &mut Appender,
    (host, app, ledger): (&Host, &App, &Ledger),
    now: Timestamp,
    segment: usize,
) -> Result<(), Error> {
    let (committed, till) = app.since(appender.complete_till());
    let mut parts = committed.chunks(segment).peekable();
    // Where nothing was committed that is said, too.
    let mut part = parts.next().unwrap_or_default();
    loop {
        let is_last = parts.peek().is_none();
        let head = part.last().map(|last| last.head);
        let (complete_till, sealed_at) = match head {
            Some(head) if !is_last => (head.commit, head.committed_at),
            _ => (till, now),
        };
        appender.append_as_of(draft(part)?, complete_till, sealed_at).await?;
        host.known_log().replace(appender.known());
        ledger.sealed(appender.epoch(), sealed_at);
        match parts.next() {
            Some(next) => part = next,
            None => return Ok(()),
        }
    }
}

fn draft(part: &[Committed]) -> Result<SegmentDraft, Error> {
    let mut draft = SegmentDraft::new();
    for Committed { head, changes, .. } in part {
        draft.note_transaction(head)?;
        for (sequence, (site, change)) in (0..).zip(changes) {
            draft.push(&site_id(site), (head, sequence), &table(), change)?;
        }
    }
    Ok(draft)
}

async fn compact(
    log: &ChangeLog,
    (epoch, KnownLog { number, .. }): (EpochId, KnownLog),
    (now, compacts): (Timestamp, Compacts),
    ledger: &Ledger,
) -> Result<(), Error> {
    let writer = lifeboat_engine::this_process();
    let compacted = match compacts {
        Compacts::No => None,
        Compacts::Due => log.compact_due(now, &writer).await?,
        Compacts::Range { behind, count } => {
            let last = number.0.saturating_sub(behind);
            let first = last.saturating_sub(count);
            // As whoever chose the range some time ago may find it: let go of in part.
            let first = first.max(log.kept(epoch).await?.first().0);
            match first < last {
                true => log.compact(epoch, SegmentNumber(first)..=SegmentNumber(last), &writer).await?,
                false => None,
            }
        }
    };
    ledger.count(|counts| counts.compactions += u64::from(compacted.is_some()));
    Ok(())
}
