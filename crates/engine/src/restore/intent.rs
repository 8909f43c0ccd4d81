//! The restore intent: from opening to closing, this restore alone may write the site.

use lifeboat_model::{
    CommitEvent, RestoreId, RestoreIntent, RestoreOutcome, SiteId, SourceName, StateError, Timestamp,
};
use lifeboat_repo::{ReadingBack, Site};
use lifeboat_source::files::FilesTarget;
use lifeboat_source::sqlite::SqliteTarget;

use super::{RestorePlan, RestoreRequest};
use crate::fleet::AnySource;
use crate::process::random_id;
use crate::{Engine, Error, is_gone, this_process};

/// An intent that this process holds.
pub(super) struct Intent {
    pub restore: RestoreId,
    /// The restore goes on from where a killed process left it.
    pub resumed: bool,
    /// The restore of a killed process that this one is in the place of.
    pub replaced: Option<RestoreIntent>,
    /// The restore that this one, or a killed attempt of it, took the place of.
    pub takes_over: Option<RestoreId>,
    /// Commits that are being read back while the restore goes on: none of it is seen by anybody before they are.
    pub unread: Vec<ReadingBack>,
}

impl Intent {
    /// Waits for what is being read back.
    pub(super) async fn read_back(&mut self) -> Result<(), Error> {
        for reading in self.unread.drain(..) {
            reading.done().await?;
        }
        Ok(())
    }
}

pub(super) fn new_restore() -> Result<RestoreId, Error> {
    Ok(RestoreId(random_id()?))
}

/// Refuses a second restore while the first may still run.
pub(super) fn check_free(site: &Site, request: &RestoreRequest) -> Result<(), Error> {
    match &site.state().intent {
        Some(open) if !request.take_over && !is_gone(&open.owner) => {
            Err(lifeboat_repo::Error::State(StateError::RestoreOpen(Box::new(open.clone()))).into())
        }
        _ => Ok(()),
    }
}

/// Opens the intent. A restore whose process is surely dead is gone on with, under its own id when
/// it was after the same snapshot; one that may still run is refused unless the person takes over.
pub(super) async fn open(
    engine: &Engine,
    site: &mut Site,
    plan: &RestorePlan,
    request: &RestoreRequest,
) -> Result<Intent, Error> {
    loop {
        // What is known is a few round trips old, and is nearly always the newest still: the commit itself says so.
        if let Some(intent) = open_after(engine, site, plan, request).await? {
            return Ok(intent);
        }
    }
}

/// Opens it after the state that is known; `None`: somebody else has opened or closed one since, which is known now.
async fn open_after(
    engine: &Engine,
    site: &mut Site,
    plan: &RestorePlan,
    request: &RestoreRequest,
) -> Result<Option<Intent>, Error> {
    let open = site.state().intent.clone();
    let dead = open.as_ref().filter(|open| request.take_over || is_gone(&open.owner));
    let same = dead.filter(|open| {
        (open.snapshot, &open.moment) == (plan.snapshot, &plan.moment())
            && open.parts == plan.sources()
            && open.keeps_later == plan.keeps_later
    });
    let resumed = same.is_some();
    if let Some(open) = dead {
        tracing::warn!(site = %plan.site, restore = %open.restore, host = open.owner.host, pid = open.owner.pid, resumed, "a restore was left open");
    }
    let restore = match same {
        // Taken over from a process that may live, it needs an id of its own to be fenced by.
        Some(open) if is_gone(&open.owner) => open.restore,
        _ => match request.restore.filter(|wanted| dead.is_none_or(|open| open.restore != *wanted)) {
            Some(wanted) => wanted,
            None => new_restore()?,
        },
    };
    let me = this_process();
    let resumed = resumed && same.is_some_and(|open| open.restore == restore);
    let intent = RestoreIntent {
        restore,
        snapshot: plan.snapshot,
        moment: plan.moment(),
        keeps_later: plan.keeps_later,
        parts: plan.sources(),
        opened_at: Timestamp::now(),
        owner: me.clone(),
        takes_over: match same.filter(|open| open.restore == restore) {
            Some(open) => open.takes_over,
            None => dead.map(|open| open.restore),
        },
    };
    let takes_over = intent.takes_over;
    let mut has_changed = false;
    let opened = site.commit_unread(&me, |state, _| match &state.intent {
        // Somebody else went on with the dead one's restore, or opened his own, a moment before.
        Some(other) if state.intent != open && !request.take_over && !is_gone(&other.owner) => {
            Err(StateError::RestoreOpen(Box::new(other.clone())).into())
        }
        now if *now != open => {
            has_changed = true;
            Err(lifeboat_repo::Error::Bug("an intent is decided anew".into()))
        }
        _ => Ok(CommitEvent::RestoreOpened(intent.clone())),
    });
    let (_, reading) = match opened.await {
        Err(_) if has_changed => return Ok(None),
        opened => opened?,
    };
    engine.memory.note_site(site);
    let replaced = open.filter(|open| is_gone(&open.owner) && open.restore != restore);
    Ok(Some(Intent { restore, resumed, replaced, takes_over, unread: vec![reading] }))
}

/// Goes on under an id of its own: what it replaces is not what the killed attempt was going to, and each
/// of the two has its undo.
pub(super) async fn renew(engine: &Engine, site: &mut Site, intent: &mut Intent) -> Result<(), Error> {
    let Some(open) = site.state().intent.clone().filter(|open| open.restore == intent.restore) else {
        return Err(Error::TakenOver { site: site.id().clone() });
    };
    let restore = new_restore()?;
    tracing::warn!(site = %site.id(), killed = %open.restore, %restore, "the site was written to since a restore was killed: it goes on under another id, each with an undo of its own");
    let renewed =
        RestoreIntent { restore, opened_at: Timestamp::now(), takes_over: Some(open.restore), ..open.clone() };
    site.commit(&this_process(), |_, _| Ok(CommitEvent::RestoreOpened(renewed.clone()))).await?;
    engine.memory.note_site(site);
    tokio::task::block_in_place(|| sweep(engine, site.id(), &open));
    (intent.restore, intent.takes_over) = (restore, renewed.takes_over);
    Ok(())
}

/// Removes what a killed restore had staged, when the restore in its place is not the same one and
/// so does not find it. What cannot be removed is only logged: it hinders nobody.
pub(super) fn sweep(engine: &Engine, site: &SiteId, dead: &RestoreIntent) {
    for source in dead.parts.iter().filter_map(|name| engine.fleet.source(name)) {
        let swept = match source {
            AnySource::Files(files) => files.place(site).and_then(|place| {
                FilesTarget::open(place, dead.restore, files.excluded(site)?)?.clean_up().map(|_| ())
            }),
            AnySource::Postgres(rows) => {
                rows.target(site, dead.restore).and_then(|mut target| target.discard_staging())
            }
            AnySource::Sqlite(sqlite) => {
                sqlite.place(site).and_then(|place| SqliteTarget::open(&place, dead.restore)?.discard_staging())
            }
        };
        if let Err(error) = swept {
            tracing::warn!(%site, restore = %dead.restore, source = %source.name(), %error, "staging was left behind");
        }
    }
}

/// Whether the intent still is the open one: the last look before the switch.
pub(super) async fn still_ours(site: &mut Site, restore: RestoreId) -> Result<(), Error> {
    site.refresh().await?;
    let owner = this_process();
    match &site.state().intent {
        Some(open) if open.restore == restore && open.owner == owner => Ok(()),
        _ => Err(Error::TakenOver { site: site.id().clone() }),
    }
}

/// Closes a restore that opened what it verified; its snapshot is proven by it when every check passed.
pub(super) async fn complete(engine: &Engine, site: &mut Site, intent: &Intent, all_passed: bool) -> Result<(), Error> {
    close(site, intent, if all_passed { RestoreOutcome::Completed } else { RestoreOutcome::Partial }).await?;
    engine.memory.note_site(site);
    Ok(())
}

/// Closes a restore that left the target as it was. A failure to say so is only logged: the error
/// that ended the restore matters more, and a dead owner's intent hinders nobody for long.
///
/// Gives the error to end with: that another restore took over explains whatever else went wrong.
pub(super) async fn abandon(engine: &Engine, site: &mut Site, intent: &Intent, error: Error) -> Error {
    if intent.resumed {
        return error; // an earlier attempt may have switched: whoever comes next goes on
    }
    match close(site, intent, RestoreOutcome::Abandoned).await {
        Ok(()) => engine.memory.note_site(site),
        Err(Error::Repo(lifeboat_repo::Error::State(StateError::NotTheOpenRestore(_)))) => {
            tracing::info!(site = %site.id(), %error, "the restore that another one took over had failed");
            return Error::TakenOver { site: site.id().clone() };
        }
        Err(error) => tracing::warn!(site = %site.id(), %error, "the restore intent stays open"),
    }
    error
}

async fn close(site: &mut Site, intent: &Intent, outcome: RestoreOutcome) -> Result<(), Error> {
    let restore = intent.restore;
    site.commit(&this_process(), |_, _| Ok(CommitEvent::RestoreClosed { restore, outcome })).await?;
    Ok(())
}

impl RestorePlan {
    /// The parts it writes.
    pub(super) fn sources(&self) -> Vec<SourceName> {
        self.parts.iter().map(|part| part.source.clone()).collect()
    }
}
