//! Proving a change log: a site's live rows, read at one moment and without the log, beside base and log at that moment.
//!
//!   live rows, and what their snapshot sees ─▶ the log has come as far ─▶ an older base ▸ all that snapshot sees ─▶ equal?
//!
//! Nothing is written. What differs is either a change that the log lacks, or one that it has too much.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lifeboat_model::{EntryKind, RowsDigest, RowsDigests, SiteId, SourceName, Timestamp};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::capture::ServerClock;
use lifeboat_source::postgres::describe::table_of_path;
use lifeboat_source::postgres::replay::RowSum;
use lifeboat_source::{ContentCheck, Read, Source};

use super::base::BasePlace;
use super::cut::Moment;
use super::locate::{Outcome, PartSearch, cut_part};
use super::log::SourceLog;
use super::rows;
use crate::fleet::AnySource;
use crate::{Engine, Error};

/// A log says at least once a minute how far it has come.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(500);
const BUFFER: usize = 256 << 10;

/// What a site's live rows and its change log say of the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    pub source: SourceName,
    pub tables: u64,
    pub rows: u64,
    /// Changes that went on top of the base.
    pub changes: u64,
    /// Tables whose rows are others.
    pub differing: Vec<String>,
    /// Tables whose changes are not all in the log: nothing is said of these.
    pub unproven: Vec<String>,
}

type Live = BTreeMap<String, (u64, RowsDigests)>;

/// Compares one captured PostgreSQL part of a site; `None`: it was never captured.
pub async fn prove_log(engine: &Engine, id: &SiteId, source: &SourceName) -> Result<Option<LogProof>, Error> {
    let Some(AnySource::Postgres(postgres)) = engine.fleet.source(source) else { return Ok(None) };
    let Some(log) = SourceLog::open(engine, source).await? else { return Ok(None) };
    let Some(epoch) = log.epochs.last().cloned() else { return Ok(None) };
    let site = engine.site(id).await?;
    let begun = Timestamp::now();
    let Some((mut live, place)) = tokio::task::block_in_place(|| read_live(postgres, id))? else { return Ok(None) };
    let place = place.filter(|place| place.joins(&epoch)).ok_or_else(|| behind(source))?;
    wait_for_log(engine, postgres, source).await?;
    let search = PartSearch { moment: Moment::End, before: Some(begun), without: None };
    let mut cut = match cut_part(engine, &site, (log, epoch), &search).await? {
        Outcome::Cut(cut) => cut,
        Outcome::Refused(..) => {
            return Err(Error::Conflict {
                detail: format!(
                    "the site has no base that the change log goes on from: site=`{id}`, source=`{source}`"
                ),
                hint: format!("`lifeboat capture` takes one, and so does `lifeboat backup {id}`"),
            });
        }
    };
    cut.seen_by = Some(place);
    let done = rows::replay(engine, &site, &cut).await?;
    let (partly, mut logged) = (cut.partly(), BTreeMap::new());
    for entry in &done.entries {
        if let EntryKind::Table { rows, digest, .. } = &entry.kind {
            logged.insert(entry.path.to_string(), (*rows, *digest));
        }
    }
    let is_unproven = |table: &String| partly.contains(table_of_path(table).as_str());
    let unproven: BTreeSet<String> =
        live.keys().chain(logged.keys()).filter(|table| is_unproven(table)).cloned().collect();
    live.retain(|table, _| !unproven.contains(table));
    logged.retain(|table, _| !unproven.contains(table));
    let proof = LogProof {
        source: source.clone(),
        tables: live.len() as u64,
        rows: live.values().map(|(rows, _)| rows).sum(),
        changes: done.changes,
        differing: differing(&live, &logged),
        unproven: unproven.into_iter().collect(),
    };
    Ok(Some(proof))
}

/// Tables that are not the same on both sides. A table without a row may be on one side alone. Pure.
fn differing(live: &Live, logged: &BTreeMap<String, (u64, RowsDigest)>) -> Vec<String> {
    let is_same = |table: &&String| match (live.get(*table), logged.get(*table)) {
        (Some((_, digests)), Some((_, digest))) => digests.are(digest),
        (Some((rows, _)), None) => *rows == 0,
        (None, Some((rows, _))) => *rows == 0,
        (None, None) => true,
    };
    let mut names: Vec<&String> = live.keys().chain(logged.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().filter(|table| !is_same(table)).cloned().collect()
}

/// Every table's rows at one moment, and what that moment's snapshot sees.
fn read_live(source: &PostgresSource, id: &SiteId) -> Result<Option<(Live, Option<BasePlace>)>, Error> {
    source.end_cut(); // what was read before is of another moment
    let Some(mut reader) = source.open(id)? else { return Ok(None) };
    let (mut live, mut buffer) = (Live::new(), vec![0; BUFFER]);
    while let Some(entry) = reader.next_entry()? {
        if !matches!(entry.kind, EntryKind::Table { .. }) {
            continue;
        }
        let (mut content, mut sum, mut row) = (reader.open_content(&entry)?, RowSum::default(), Vec::new());
        while let Read::Data(len) = content.read(&mut buffer)? {
            for piece in buffer.get(..len).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                row.extend_from_slice(piece);
                if row.last() == Some(&b'\n') {
                    sum.add(&row);
                    row.clear();
                }
            }
        }
        let ContentCheck::Stable(entry) = content.check()? else { return Err(behind(source.name())) };
        if let EntryKind::Table { rows, digest: RowsDigest::InOrder(in_order), .. } = entry.kind {
            live.insert(entry.path.to_string(), (rows, RowsDigests { in_order, any_order: sum.to_bytes() }));
        }
    }
    let summary = reader.finish()?;
    source.end_cut();
    Ok(Some((live, BasePlace::of(&summary.position.0, &summary.identity.machine))))
}

/// Until the log has everything that the live rows can have shown.
async fn wait_for_log(engine: &Engine, postgres: &PostgresSource, source: &SourceName) -> Result<(), Error> {
    let wanted = tokio::task::block_in_place(|| ServerClock::default().ask(postgres))?.position;
    let till = Instant::now() + PATIENCE;
    loop {
        engine.check_cancelled()?;
        let log = engine.change_log(source).await?;
        if let Some(segment) = log.newest().and_then(|newest| newest.segment)
            && log.footer(&segment).await?.span.complete_till.0 >= wanted.0.saturating_sub(1)
        {
            return Ok(());
        }
        if Instant::now() > till {
            return Err(behind(source));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn behind(source: &SourceName) -> Error {
    Error::Conflict {
        detail: format!("the change log has not come as far as the live rows: source=`{source}`"),
        hint: "is `lifeboat capture` running? `lifeboat status` says how far behind it is".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_other_rows_or_missing_differs_and_an_empty_one_does_not() {
        let digests = |byte: u8| RowsDigests { in_order: [byte; 32], any_order: [byte + 100; 32] };
        let live: Live = [("a", 2, 1), ("b", 3, 2), ("c", 0, 3), ("d", 1, 4)]
            .map(|(table, rows, byte)| (table.to_owned(), (rows, digests(byte))))
            .into();
        let logged: BTreeMap<String, (u64, RowsDigest)> = [
            ("a", 2, RowsDigest::InOrder([1; 32])),
            ("b", 3, RowsDigest::AnyOrder([103; 32])),
            ("e", 0, RowsDigest::AnyOrder([0; 32])),
            ("f", 1, RowsDigest::AnyOrder([0; 32])),
        ]
        .map(|(table, rows, digest)| (table.to_owned(), (rows, digest)))
        .into();
        assert_eq!(differing(&live, &logged), ["b", "d", "f"]);
    }
}
