//! Which snapshots changes go on top of, and which changes. Pure.
//!
//! Invariant (joined-by-visibility): a change goes on top of a base exactly when its transaction is not visible
//! in the base's snapshot. Never by its position: a commit stands in the log before others can see it.
//! What is not here: choosing among a site's snapshots (`locate`).

use lifeboat_model::{Epoch, Lsn, SpanBounds, TransactionHead, TransactionId, Visibility};

use super::cut::Cut;

#[cfg(test)]
mod tests;

/// Where in the source's history a snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BasePlace {
    system_identifier: String,
    timeline: u32,
    pub lsn: Lsn,
    sees: Visibility,
}

impl BasePlace {
    /// From a part's position, `lsn=…, timeline=…, snapshot=…`, and the machine of its identity.
    pub fn of(position: &str, machine: &str) -> Option<Self> {
        let (lsn, rest) = position.strip_prefix("lsn=")?.split_once(", timeline=")?;
        let (timeline, snapshot) = rest.split_once(", snapshot=")?;
        Some(Self {
            system_identifier: machine.strip_prefix("postgresql ")?.to_owned(),
            timeline: timeline.parse().ok()?,
            lsn: Lsn::parse(lsn).ok()?,
            sees: Visibility::parse(snapshot)?,
        })
    }

    /// Whether every transaction that the epoch does not have is seen.
    pub fn joins(&self, epoch: &Epoch) -> bool {
        let facts = &epoch.facts;
        let is_same = (&self.system_identifier, self.timeline) == (&facts.system_identifier, facts.timeline);
        let Some(before) = Visibility::parse(&facts.snapshot).filter(|_| is_same) else { return false };
        let unseen = self.sees.running.iter().any(|running| before.sees(*running));
        self.sees.xmax >= before.xmax && !unseen
    }

    /// Every transaction of a lower number is seen.
    pub fn xmin(&self) -> TransactionId {
        self.sees.xmin
    }

    /// Whether a transaction is seen.
    pub fn sees(&self, id: TransactionId) -> bool {
        self.sees.sees(id)
    }

    /// Whether one of a segment's transactions may be seen.
    pub fn may_see(&self, bounds: &SpanBounds) -> bool {
        bounds.lowest < self.sees.xmax
    }

    /// Whether a transaction's changes go on top of the base, up to the cut.
    pub fn belongs(&self, head: &TransactionHead, cut: &Cut) -> bool {
        head.commit <= cut.till && !self.sees.sees(head.id)
    }
}
