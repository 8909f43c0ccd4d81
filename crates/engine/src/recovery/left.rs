//! What earlier attempts at a case have left, as the site's commits say: who did them may have died before he could.
//!
//! Invariant (done-once): what an attempt has restored, and nobody heard of, is not restored a second time: what users
//! have written since stays, and the undo is of what stood there before the recovery.

use std::ops::ControlFlow;
use std::time::Duration;

use lifeboat_model::{
    CasePlan, Check, Commit, CommitEvent, Receipt, RestoreId, RestoreOutcome, SiteId, SiteState, SnapshotId,
};

use super::case::CaseAttempt;
use crate::{Engine, Error};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing that matters: the case begins.
    Nothing,
    /// The open restore is an attempt's: it is to be gone on with.
    Open(RestoreId),
    /// An attempt nobody has heard of has restored the site.
    Done { restore: RestoreId, outcome: RestoreOutcome, undo: Option<SnapshotId> },
}

/// Looks at so many commits: a day of a site that is captured, and more.
const COMMITS_MAX: u64 = 512;

/// Read-only. One listing and one read where earlier attempts are known and began nothing lately; none for a first one.
pub(super) async fn what_is_left(engine: &Engine, site: &SiteId, attempt: &CaseAttempt) -> Result<Left, Error> {
    let earlier: Vec<RestoreId> = attempt.unheard.iter().chain(&attempt.failed).copied().collect();
    if earlier.is_empty() {
        return Ok(Left::Nothing);
    }
    let site = engine.site(site).await?;
    let open = site.state().intent.as_ref().map(|open| open.restore);
    let ours = [std::slice::from_ref(&attempt.restore), &earlier].concat();
    let ours = if open.is_some() { &ours } else { &attempt.unheard };
    let mut search = Search { ours, of: open, closed: None };
    let found = site.look_back(COMMITS_MAX, |commit| search.look(commit)).await?;
    Ok(match (found.unwrap_or(false), open, search.closed) {
        (true, Some(restore), _) => Left::Open(restore),
        (true, None, Some((restore, outcome))) => Left::Done { restore, outcome, undo: undo_of(site.state(), restore) },
        _ => Left::Nothing,
    })
}

fn undo_of(state: &SiteState, restore: RestoreId) -> Option<SnapshotId> {
    state.undo_of(restore).map(|record| record.id)
}

/// Whether the newest restore of a site is an attempt's, or goes on with one under another id.
struct Search<'a> {
    ours: &'a [RestoreId],
    /// Where the search is; `None`: no restore was seen yet.
    of: Option<RestoreId>,
    closed: Option<(RestoreId, RestoreOutcome)>,
}

impl Search<'_> {
    fn look(&mut self, commit: Commit) -> ControlFlow<bool> {
        match (commit.event, self.of) {
            (CommitEvent::RestoreClosed { outcome: RestoreOutcome::Abandoned, .. }, None) => ControlFlow::Break(false),
            (CommitEvent::RestoreClosed { restore, outcome }, None) => {
                (self.of, self.closed) = (Some(restore), Some((restore, outcome)));
                self.at(restore)
            }
            (CommitEvent::RestoreOpened(intent), Some(of)) if intent.restore == of => match self.at(of) {
                ControlFlow::Continue(()) => match intent.takes_over {
                    None => ControlFlow::Break(false),
                    Some(before) => {
                        self.of = Some(before);
                        self.at(before)
                    }
                },
                found => found,
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn at(&self, restore: RestoreId) -> ControlFlow<bool> {
        if self.ours.contains(&restore) { ControlFlow::Break(true) } else { ControlFlow::Continue(()) }
    }
}

/// The receipt that the attempt did not live to write. What it counted is not known any more.
pub(super) fn receipt_of(
    case: &CasePlan,
    restore: RestoreId,
    outcome: RestoreOutcome,
    undo: Option<SnapshotId>,
) -> Receipt {
    Receipt {
        restore,
        site: case.site.clone(),
        at: case.at,
        snapshot: case.snapshot,
        parts: Vec::new(),
        bytes_read: 0,
        requests: 0,
        duration: Duration::ZERO,
        checks: vec![Check {
            name: "restored by an earlier attempt".into(),
            passed: outcome == RestoreOutcome::Completed,
            detail:
                "it verified what it wrote and died before it could write its receipt; what was written since stays"
                    .into(),
        }],
        undo,
    }
}
