//! Bystanders of a recovery: looked at before its first case and after its last, and proven untouched.
//!
//!   look ─▶ cases ─▶ look again ─▶ [`prove_bystanders`]
//!                                    ├ digests: equal?
//!                                    ├ change log: changed by whom?                    (where the source is captured)
//!                                    └ change log: did a restore write to another site? (of every site, not only those)
//!
//! Invariant (bystanders-proven): a change of a restore's transaction that is another site's fails the proof; a bystander
//! that differs counts as its own users' work only where the log names a transaction of theirs.
//!
//! What is not here: what one restore proves of its own transaction (`lifeboat-source`), when this is done
//! (`lifeboat-control`).

mod judge;
mod logged;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lifeboat_model::{BystanderLook, BystanderProof, Lsn, SiteId, SourceName, TransactionId, Visibility};

use crate::{Engine, Error};
pub use look::{BystanderRequest, look_again, look_at_bystanders};

use judge::judge;
use logged::{Logged, Question};

/// How often a log that is behind is looked at.
const POLL: Duration = Duration::from_millis(500);

/// A transaction in which a case of the recovery wrote rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreWrote {
    pub source: SourceName,
    pub transaction: TransactionId,
    pub site: SiteId,
}

/// Compares two looks, and asks the change logs about what is between them.
///
/// `patience`: so long a log that has not come to the second look is waited for.
pub async fn prove_bystanders(
    engine: &Engine,
    (first, second): (&BystanderLook, &BystanderLook),
    wrote: &[RestoreWrote],
    must_be_quiet: bool,
    patience: Duration,
) -> Result<BystanderProof, Error> {
    let changed = judge::changed(first, second);
    let mut logs = BTreeMap::new();
    for source in engine.repository.captured_sources().await? {
        let of_source = wrote.iter().filter(|wrote| wrote.source == source);
        let restores: BTreeMap<TransactionId, SiteId> =
            of_source.map(|wrote| (wrote.transaction, wrote.site.clone())).collect();
        let asked: BTreeSet<SiteId> =
            changed.iter().filter(|(_, of)| *of == source).map(|(site, _)| site.clone()).collect();
        if restores.is_empty() && asked.is_empty() {
            continue;
        }
        let sees = |look: &BystanderLook| -> Option<(Lsn, Visibility)> {
            let moment = look.moments.iter().find(|moment| moment.source == source)?;
            Some((moment.lsn, moment.visibility()?))
        };
        let between = sees(first).zip(sees(second)).map(|((_, first), (till, second))| (first, second, till));
        let question = Question { source: source.clone(), since: first.looked_at, between, restores, asked };
        let logged = read_until_there(engine, &question, patience).await?;
        logs.insert(source, logged);
    }
    Ok(judge((first, second), wrote, &logs, must_be_quiet))
}

/// Reads the log, again and again while it is behind.
async fn read_until_there(engine: &Engine, question: &Question, patience: Duration) -> Result<Logged, Error> {
    let began = Instant::now();
    loop {
        engine.check_cancelled()?;
        let logged = logged::read(engine, question).await?;
        if logged.is_there || began.elapsed() >= patience {
            return Ok(logged);
        }
        tokio::time::sleep(POLL).await;
    }
}
