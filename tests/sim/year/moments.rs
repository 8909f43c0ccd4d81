//! Moments between nights: what the truth says of them, what can be asked for, and what is given.
//!
//!   epochs, bases ─▶ is the moment to be restorable? ─▶ within the engine's windows, and given ─▶ equal to the truth
//!
//! A moment that need not be given may be refused; nothing else than the truth is ever given.

use lifeboat_engine::{Certainty, windows};
use lifeboat_model::{EntryKind, Fault, Faulty, PointInTime, RowsDigest, Timestamp, TransactionId, Visibility};
use lifeboat_source::postgres::replay::RowSum;
use lifeboat_testkit::world::site_id;

use super::app::{App, Rows, copied, source};
use super::host::Host;
use super::ledger::Ledger;

/// An epoch as its capturer knows it.
#[derive(Debug, Clone)]
pub struct KnownEpoch {
    pub begun_at: Timestamp,
    /// What its slot was made with.
    pub snapshot: Visibility,
    /// All till then was captured; `None`: nothing yet.
    pub sealed_till: Option<Timestamp>,
}

/// A snapshot that was published, as its host knows it.
#[derive(Debug, Clone)]
pub struct KnownBase {
    pub at: Timestamp,
    pub sees: Visibility,
}

impl KnownBase {
    /// Whether it sees all that the epoch does not have.
    fn joins(&self, epoch: &KnownEpoch) -> bool {
        let is_unseen = |id: &TransactionId| epoch.snapshot.sees(*id);
        self.at >= epoch.begun_at && self.sees.xmax >= epoch.snapshot.xmax && !self.sees.running.iter().any(is_unseen)
    }
}

/// Whether a moment is restorable by what was captured and published.
pub fn is_restorable<'k>(
    at: Timestamp,
    epochs: impl IntoIterator<Item = &'k KnownEpoch>,
    (bases, erased): (&[KnownBase], &[TransactionId]),
) -> bool {
    let is_in = |epoch: &&KnownEpoch| epoch.begun_at <= at && epoch.sealed_till.is_some_and(|till| at <= till);
    let newest = |epoch: &KnownEpoch| bases.iter().rev().find(|base| base.at <= at && base.joins(epoch)).cloned();
    let has_base = |epoch: &KnownEpoch| newest(epoch).is_some_and(|base| erased.iter().all(|id| base.sees.sees(*id)));
    epochs.into_iter().filter(is_in).any(has_base)
}

/// Asks for moments of a site: those that are to be restorable are, and whatever is given is true.
pub async fn check(
    host: &Host,
    (app, ledger): (&App, &Ledger),
    site: &str,
    (moments, are_promised): (&[Timestamp], bool),
    context: &str,
) {
    let open = host.open(site).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    let parts = windows(&host.engine, &open, &[source()], Certainty::Ends).await;
    let parts = parts.unwrap_or_else(|error| panic!("{context}: {site}: {error}"));
    for at in moments {
        let within = |window: &lifeboat_engine::Window| window.from <= *at && *at <= window.till;
        let is_told = parts.iter().flat_map(|part| &part.windows).any(within);
        let is_wanted = are_promised && ledger.is_restorable(site, *at);
        assert!(is_told || !is_wanted, "{context}: {site} has lost the moment {at}: {parts:#?}");
        let asked = format!("{context}: {site} at {at}, wanted=`{is_wanted}`, told=`{is_told}`");
        match sum_at(host, site, *at).await {
            Ok(Some(sum)) => {
                let truth = app.rows_at(site, *at);
                assert_eq!(sum, sum_of(&truth), "{asked}: other rows than {truth:?}");
                ledger.count(|counts| counts.moments += 1);
            }
            Ok(None) => assert!(!is_wanted, "{asked}: a snapshot was given as it is"),
            // What waited for a standby when the site was erased is in no base, and in a block that nobody can open any more.
            Err(lifeboat_engine::Error::Repo(lifeboat_repo::Error::Erased { .. })) if !is_wanted => {
                ledger.count(|counts| counts.refused += 1);
            }
            Err(error) if is_told => panic!("{asked}: {error}, {:?}", error.hint()),
            Err(error) => {
                assert_eq!(error.fault(), Fault::Operator, "{asked}: {error}");
                ledger.count(|counts| counts.refused += 1);
            }
        }
    }
}

/// The sum of the rows at a moment; `None`: the nearest snapshot is given instead, for nothing was captured.
async fn sum_at(host: &Host, site: &str, at: Timestamp) -> Result<Option<RowsDigest>, lifeboat_engine::Error> {
    let at = PointInTime::Time(at);
    let listed = lifeboat_engine::list(&host.engine, &site_id(site), &at, Some(&source()), None).await?;
    if listed.replayed.is_none_or(|replayed| replayed.parts.is_empty()) {
        return Ok(None);
    }
    let [line] = &listed.lines[..] else { panic!("{site} at {at}: {:?}", listed.lines) };
    match &line.entry.kind {
        EntryKind::Table { digest, .. } => Ok(Some(*digest)),
        other => panic!("{site} at {at}: {other:?}"),
    }
}

/// What proves rows of any order.
pub fn sum_of(rows: &Rows) -> RowsDigest {
    let mut sum = RowSum::default();
    copied(rows).split_inclusive('\n').for_each(|line| sum.add(line.as_bytes()));
    RowsDigest::AnyOrder(sum.to_bytes())
}
