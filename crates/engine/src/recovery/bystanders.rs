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

use lifeboat_model::{BystanderLook, BystanderProof, Lsn, SiteId, SourceName, Timestamp, TransactionId, Visibility};

use crate::{AnySource, Engine, Error};
pub use look::{BystanderRequest, look_again, look_at_bystanders};

use judge::judge;
use logged::{Logged, Question};

/// How often a log that is behind is looked at.
const POLL: Duration = Duration::from_millis(500);
/// A log that has said nothing for so long is not being written: it is not waited for.
const SILENCE: Duration = Duration::from_secs(300);

/// A transaction in which a case of the recovery wrote rows, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreWrote {
    pub source: SourceName,
    pub site: SiteId,
    /// `None`: nobody lived to say in which, or whether at all.
    pub transaction: Option<TransactionId>,
}

/// The sources to which a restore writes in transactions.
pub fn databases(engine: &Engine) -> Vec<SourceName> {
    let is_database = |source: &&AnySource| matches!(source, AnySource::Postgres(_));
    engine.fleet.sources().iter().filter(is_database).map(|source| source.name().clone()).collect()
}

/// What is to be proven.
#[derive(Debug, Clone, Copy)]
pub struct ProofRequest<'r> {
    pub first: &'r BystanderLook,
    pub second: &'r BystanderLook,
    /// The recovery's sites.
    pub cases: &'r BTreeSet<SiteId>,
    /// What its restores wrote in.
    pub wrote: &'r [RestoreWrote],
    /// What is not proven fails the proof.
    pub must_be_quiet: bool,
    /// So long a change log that has not come to the second look is waited for.
    pub patience: Duration,
}

/// Compares two looks, and asks the change logs about what is between them.
pub async fn prove_bystanders(engine: &Engine, request: ProofRequest<'_>) -> Result<BystanderProof, Error> {
    let ProofRequest { first, second, cases, wrote, patience, .. } = request;
    let changed = judge::changed(first, second);
    let mut logs = BTreeMap::new();
    for source in engine.repository.captured_sources().await? {
        let of_source = wrote.iter().filter(|wrote| wrote.source == source);
        let (mut restores, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        for RestoreWrote { site, transaction, .. } in of_source {
            match transaction {
                Some(transaction) => drop(restores.insert(*transaction, site.clone())),
                None => drop(unknown.insert(site.clone())),
            }
        }
        let asked: BTreeSet<SiteId> =
            changed.iter().filter(|(_, of)| *of == source).map(|(site, _)| site.clone()).collect();
        if restores.is_empty() && unknown.is_empty() && asked.is_empty() {
            continue;
        }
        let sees = |look: &BystanderLook| -> Option<(Lsn, Visibility)> {
            let moment = look.moments.iter().find(|moment| moment.source == source)?;
            Some((moment.lsn, moment.visibility()?))
        };
        let between = sees(first).zip(sees(second)).map(|((_, first), (till, second))| (first, second, till));
        let since = first.looked_at;
        let question = Question { source: source.clone(), since, between, restores, unknown, asked, cases };
        let logged = read_until_there(engine, &question, patience).await?;
        logs.insert(source, logged);
    }
    Ok(judge(request, &logs))
}

/// Reads the log, again and again while it is behind.
async fn read_until_there(engine: &Engine, question: &Question<'_>, patience: Duration) -> Result<Logged, Error> {
    let began = Instant::now();
    loop {
        engine.check_cancelled()?;
        let logged = logged::read(engine, question).await?;
        let is_silent = logged.sealed_at.is_none_or(|sealed| Timestamp::now().since(sealed) > SILENCE);
        if logged.is_there || is_silent || began.elapsed() >= patience {
            return Ok(logged);
        }
        tokio::time::sleep(POLL).await;
    }
}
