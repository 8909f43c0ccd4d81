//! Blocks that an erasure has left unreadable, and that a moment does not need.
//!
//! ```text
//!   block ── erased ── base ──▶        which sees all of the block: looked at only because another transaction was open
//! ```
//!
//! Where a search begins is said by the oldest transaction that a base does not see, which may have been open for days. If
//! the site was erased meanwhile, what others did before is sealed by a key that is gone, and is in the base.

use lifeboat_model::{BlockRef, SiteId};
use lifeboat_repo::SegmentBlock;

use super::locate::PartCut;
use crate::Error;

/// How many of the blocks are not to be read any more, when the one at an object could not be opened; `None`: it has
/// something that the base does not see.
pub(super) async fn unneeded_till(
    cut: &PartCut,
    blocks: &[SegmentBlock],
    object: &str,
) -> Result<Option<usize>, Error> {
    let log = &cut.log.log;
    let Some(at) = blocks.iter().position(|block| log.object_of(&block.segment) == object) else { return Ok(None) };
    let SegmentBlock { segment, block } = &blocks[at];
    let shared = log.shared(segment, &log.footer(segment).await?).await?;
    let is_own = |site: u32, id: &SiteId| shared.sites.get(site as usize) == Some(id);
    let own = |BlockRef { site, .. }: &BlockRef| {
        let changes =
            |facts: &&lifeboat_model::TransactionFacts| facts.counts.iter().any(|count| is_own(count.site, site));
        shared.transactions.iter().filter(changes).map(|facts| facts.head).collect::<Vec<_>>()
    };
    let heads = own(block);
    // Of a transaction that is cut in two the head comes later: then nobody can tell here.
    let is_whole = [block.first, block.last].iter().all(|place| heads.iter().any(|head| head.commit == place.commit));
    Ok((is_whole && heads.iter().all(|head| cut.base.place.sees(head.id))).then_some(at + 1))
}
