//! Compacting a source's change log, now and then: fewer and longer segments, and nothing lost.
//!
//! What is not here: which segments, and how (`lifeboat-repo`).

use lifeboat_model::{SourceName, Timestamp};
use lifeboat_repo::{ChangeLog, Compacted};

use crate::{Engine, Error, this_process};

/// Long segments made at once; what is left is due the next time.
const AT_ONCE_MAX: usize = 8;

/// Writes again what is due of a source's log, and gives what was published. To be called every few minutes: where
/// nothing is due it costs a few listings. It may run beside a capture, in the same process or another.
///
/// Must run on a multi-threaded runtime.
pub async fn compact_due(engine: &Engine, source: &SourceName) -> Result<Vec<Compacted>, Error> {
    // Of all sites, whomever this engine reads for.
    let log: ChangeLog = engine.change_log(source).await?.with_once(None);
    let mut done = Vec::new();
    while done.len() < AT_ONCE_MAX {
        engine.check_cancelled()?;
        match log.compact_due(Timestamp::now(), &this_process()).await? {
            Some(compacted) => done.push(compacted),
            None => break,
        }
    }
    Ok(done)
}
