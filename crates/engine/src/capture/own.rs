//! Tables that are one site's own: what befalls one of them is no other site's affair.
//!
//! ```text
//! made              no change of its rows is followed yet
//! joined            from here on all are; with rows, the site needs a base that sees them
//! rewritten, moved  the site needs a base; the epoch goes on
//! ```
//!
//! After each change of structure a base is wished for, so that a schema that is dropped later can be made again as it
//! was.

use lifeboat_model::{ChangePlace, SiteId, Timestamp};
use lifeboat_source::postgres::capture::{OtherChange, StructureChange, StructureKind, WITH_ROWS};

use super::writer::{AS_PARTITION, FOLLOWED, MOVED, OBJECT, UNFOLLOWED, Writer};
use crate::Error;

impl Writer<'_> {
    /// Sites that need a base since this was asked last.
    pub fn sites_without_base(&mut self) -> Vec<SiteId> {
        std::mem::take(&mut self.state.without_base).into_iter().collect()
    }

    fn wish(&mut self, site: SiteId) {
        self.state.counted.wish(site.clone(), Timestamp::now());
        self.state.without_base.insert(site);
    }

    /// Wishes again what was wished for before and nobody has done: whoever captured may have been killed before.
    pub async fn wish_again(&mut self) -> Result<(), Error> {
        for (site, at) in self.state.counted.wished() {
            let known = self.engine.repository.site(&site, self.engine.memory.known_head(&site)).await?;
            let newest = known.and_then(|site| site.state().snapshots.last().map(|record| record.cut_from));
            if newest.is_some_and(|newest| newest > at) {
                self.state.counted.wish_is_done(&site);
            } else {
                self.state.without_base.insert(site);
            }
        }
        Ok(())
    }

    /// What the log says of the site to whom the table belongs is not whole from here on; `None`: sites share it.
    pub(super) fn break_own(&mut self, place: ChangePlace, table: &str) -> Option<()> {
        let site = self.router.owner_of(table)?;
        self.break_site(place, site);
        Some(())
    }

    /// A change that no block can hold: the site is whole again from a base that sees it. Nothing else waits for it.
    pub(super) fn leave_out(
        &mut self,
        place: ChangePlace,
        site: &SiteId,
        (table, error): (&str, &lifeboat_repo::Error),
    ) {
        tracing::warn!(%site, table, %error, "a change of a row is not in the change log; a new base is taken");
        self.break_site(place, site.clone());
    }

    fn break_site(&mut self, place: ChangePlace, site: SiteId) {
        self.state.draft.note(place, MOVED.to_owned(), site.as_str().as_bytes().to_vec());
        self.wish(site);
    }

    pub(super) fn take_own_structure(&mut self, place: ChangePlace, change: &StructureChange) {
        let is_table = matches!(change.kind, StructureKind::Altered { .. }) && change.root.is_none();
        let renamed = is_table.then(|| self.state.counted.rename(change.oid, &change.table)).flatten();
        // With its rows, which no change tells of.
        renamed.as_ref().map(|before| self.break_own(place, before));
        let Some(site) = self.router.owner_of(change.root.as_ref().unwrap_or(&change.table)) else { return };
        self.wish(site.clone());
        if let StructureKind::Other(other) = &change.kind {
            if other.tag == "ALTER TYPE" && !other.adds_values {
                self.break_site(place, site.clone()); // its values may be written otherwise since
            }
            self.note_object(place, &site, other);
        }
        if let (StructureKind::Dropped { column: None, .. }, Some(head)) = (&change.kind, self.open_head()) {
            self.state.losses.note_dropped(&site, &head);
        }
        let StructureKind::Altered { tag, .. } = &change.kind else { return };
        if change.root.is_none() && (tag.starts_with("CREATE") || tag == "SELECT INTO") {
            let content = format!("{site}\n{}", change.table);
            self.state.draft.note(place, UNFOLLOWED.to_owned(), content.into_bytes());
        } else if change.root.is_some() {
            // Made by itself and attached: from here on its rows are those of the partitioned table.
            let content = format!("{site}\n{}\n{AS_PARTITION}", change.table);
            self.state.draft.note(place, FOLLOWED.to_owned(), content.into_bytes());
        } else if renamed.is_some() {
            self.break_site(place, site);
        }
    }

    fn note_object(&mut self, place: ChangePlace, site: &SiteId, change: &OtherChange) {
        let Some(object) = &change.object else { return };
        let content = format!("{site}\n{}", object.to_json());
        self.state.draft.note(place, OBJECT.to_owned(), content.into_bytes());
    }

    /// A table joined what is followed. A message is a word, not a proof: whoever may write one can make a site need a
    /// base, and no more.
    pub(super) fn take_joined(&mut self, place: ChangePlace, content: &[u8]) {
        let text = String::from_utf8_lossy(content);
        let Some((table, rows)) = text.rsplit_once('\n') else { return };
        let Some(site) = self.router.owner_of(table) else { return };
        let content = format!("{site}\n{table}\n{rows}");
        self.state.draft.note(place, FOLLOWED.to_owned(), content.into_bytes());
        if rows == WITH_ROWS {
            self.wish(site);
        }
    }

    /// Of a table that the router does not know: whether it is no site's. One that is a site's and is there has another
    /// name than it had, and rows that the log knows under that one.
    pub(super) fn is_foreign_of_own(&mut self, place: ChangePlace, table: &str) -> Result<bool, Error> {
        let Some(site) = self.router.owner_of(table) else {
            self.state.foreign.insert(table.to_owned());
            return Ok(true);
        };
        if self.source.is_of_sites(table)? == Some(true) {
            self.break_site(place, site);
        }
        Ok(false)
    }
}
