//! Going on after damage that nothing can mend: what is lost is used by nothing from here on.
//!
//!   findings of a check ─▶ points that need what is lost are incomplete ▸ the index knows nothing of it ─▶ the next backup stores it anew
//!
//! Nothing is deleted, and nothing that could still be read is given up: an incomplete point can be restored without what is lost.

use std::collections::BTreeSet;

use lifeboat_format::ObjectKind;
use lifeboat_format::names::{self, ParsedName};
use lifeboat_model::{CommitEvent, Mark, ObjectId, SnapshotId, WriterIdentity};

use crate::{Error, Finding, Site};

/// What was set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetAside {
    /// Points that were good or suspect, and are incomplete now.
    pub snapshots: Vec<SnapshotId>,
    /// Packs and index segments that no backup uses any more.
    pub objects: u64,
}

impl Site {
    /// Sets aside what a check has found damaged.
    pub async fn set_aside(&mut self, findings: &[Finding], writer: &WriterIdentity) -> Result<SetAside, Error> {
        let mut done = SetAside::default();
        let (mut packs, mut indexes) = (BTreeSet::new(), BTreeSet::new());
        for finding in findings {
            match names::parse_object_name(&finding.object) {
                Some(ParsedName::Object(_, ObjectKind::Pack, id)) => packs.insert(id),
                Some(ParsedName::Object(_, ObjectKind::Index, id)) => indexes.insert(id),
                _ => false,
            };
            for snapshot in &finding.snapshots {
                let is_whole = |mark| matches!(mark, Mark::Good | Mark::Suspect);
                if self.state().snapshot(*snapshot).is_some_and(|record| is_whole(record.mark)) {
                    let reason = format!("damage: {}", finding.object);
                    let event = CommitEvent::Marked { snapshot: *snapshot, mark: Mark::Incomplete, reason };
                    self.commit(writer, |_, _| Ok(event.clone())).await?;
                    done.snapshots.push(*snapshot);
                }
            }
        }
        done.objects = self.leave_out(&packs, &indexes, writer).await?;
        Ok(done)
    }

    /// Takes packs out of the index, and segments that cannot be read. Gives how many it knew.
    async fn leave_out(
        &mut self,
        packs: &BTreeSet<ObjectId>,
        unreadable: &BTreeSet<ObjectId>,
        writer: &WriterIdentity,
    ) -> Result<u64, Error> {
        let before = self.state().indexes.clone();
        let mut known = before.iter().filter(|index| unreadable.contains(&index.id)).count();
        for index in before.iter().filter(|index| !unreadable.contains(&index.id)) {
            known += self.read_index(index).await?.packs.iter().filter(|row| packs.contains(&row.id)).count();
        }
        if known == 0 {
            return Ok(0);
        }
        let merged = self.merged_index((packs, unreadable)).await?;
        let index = self.write_segment(merged).await?;
        self.commit(writer, |state, _| match state.indexes == before {
            true => Ok(CommitEvent::IndexCompacted { index }),
            false => Err(Error::ChangedMeanwhile { site: state.site.clone() }),
        })
        .await?;
        Ok(known as u64)
    }
}
