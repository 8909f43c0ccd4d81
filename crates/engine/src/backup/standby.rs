//! No backup from a standby, of a source whose changes are followed on the primary.
//!
//! A standby lists none of the transactions that run on the primary: who reads from it cannot tell which of them it has not
//! seen, so that no change could go on top of what it read. Such a snapshot would be in the place of a base, and is none.

use lifeboat_model::Faulty;

use crate::fleet::{AnySource, SourceHealth};
use crate::{Engine, Error};

/// Lets the standbys among healthy sources have failed.
pub(super) async fn refuse(engine: &Engine, health: &mut [SourceHealth]) -> Result<(), Error> {
    for health in health.iter_mut().filter(|health| health.failure.is_none()) {
        let Some(AnySource::Postgres(source)) = engine.fleet.source(&health.source) else { continue };
        let is_standby = match tokio::task::block_in_place(|| source.is_standby()) {
            Ok(is_standby) => is_standby,
            Err(error) => {
                health.failure = Some((error.to_string(), error.hint().unwrap_or_default()));
                continue;
            }
        };
        if is_standby && engine.change_log(&health.source).await?.newest().is_some() {
            let source = &health.source;
            let detail = format!("it is a standby, and changes of `{source}` are followed on its primary");
            let hint = "back it up from the primary: a standby does not tell which transactions it has not seen, so that \
                        the change log could not go on top of its snapshots";
            health.failure = Some((detail, hint.to_owned()));
        }
    }
    Ok(())
}
