//! The end of points: forgotten, brought back, held, pruned, erased. Each is a commit of the site's own sequence.
//!
//! What is not here: which points are forgotten (`lifeboat-control`), and what pruning deletes (`lifeboat-repo`).

use std::time::Duration;

use lifeboat_model::{CommitEvent, Forgotten, Hold, HoldId, HoldReason, SnapshotId, StateError};
use lifeboat_repo::{Erased, PruneRules, Pruned, Site, TrustedNow};

use crate::backup::new_hold;
use crate::{Engine, Error, this_process};

/// Marks points as forgotten: they can be brought back for as long as `undelete` says.
pub async fn forget(
    engine: &Engine,
    site: &mut Site,
    snapshots: Vec<SnapshotId>,
    (reason, undelete): (&str, Duration),
    clock: &TrustedNow,
) -> Result<Forgotten, Error> {
    engine.check_cancelled()?;
    let forgotten = Forgotten { at: clock.later, till: clock.later.saturating_add(undelete) };
    let event = CommitEvent::Forgot { snapshots, forgotten, reason: reason.to_owned() };
    site.commit(&this_process(), |_, _| Ok(event.clone())).await?;
    engine.memory.note_site(site);
    Ok(forgotten)
}

/// Brings forgotten points back.
pub async fn undelete(engine: &Engine, site: &mut Site, snapshots: Vec<SnapshotId>) -> Result<(), Error> {
    site.commit(&this_process(), |_, _| Ok(CommitEvent::Undeleted { snapshots: snapshots.clone() })).await?;
    engine.memory.note_site(site);
    Ok(())
}

/// Keeps all of a site's points until the hold is released.
pub async fn hold(engine: &Engine, site: &mut Site, note: &str) -> Result<Hold, Error> {
    let event = new_hold(HoldReason::Asked, note)?;
    site.commit(&this_process(), |_, _| Ok(event.clone())).await?;
    engine.memory.note_site(site);
    match event {
        CommitEvent::HoldPlaced(hold) => Ok(hold),
        _ => Err(Error::Bug("a hold that is none".into())),
    }
}

/// Releases a hold; one that is gone already is no error.
pub async fn release(engine: &Engine, site: &mut Site, hold: HoldId) -> Result<(), Error> {
    let released = site.commit(&this_process(), |_, _| Ok(CommitEvent::HoldReleased { hold })).await;
    match released {
        Ok(_) | Err(lifeboat_repo::Error::State(StateError::NoSuchHold(_))) => {}
        Err(error) => return Err(error.into()),
    }
    engine.memory.note_site(site);
    Ok(())
}

/// Prunes a site.
pub async fn prune(engine: &Engine, site: &mut Site, rules: &PruneRules, clock: &TrustedNow) -> Result<Pruned, Error> {
    engine.check_cancelled()?;
    let pruned = site.prune(rules, clock, &this_process()).await?;
    engine.memory.note_site(site);
    Ok(pruned)
}

/// Erases a site: nobody can read what it had till now.
pub async fn erase(engine: &Engine, site: &mut Site, reason: &str, clock: &TrustedNow) -> Result<Erased, Error> {
    let erased = site.erase(reason, clock, &this_process()).await;
    // Whatever came of it: what is remembered of the site may be of before.
    engine.memory.note_site(site);
    Ok(erased?)
}
