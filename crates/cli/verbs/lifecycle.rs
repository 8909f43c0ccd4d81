//! What the verbs at the end of a point's life begin with: which sites, what time it is, and whether the bucket is whole.
//!
//! Nothing is marked, condemned or erased in a bucket that has lost commits: it would be decided by what is not true any more.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt};
use lifeboat_model::{Fault, Faulty, Generation, RunOutcome, SiteId, Timestamp};
use lifeboat_repo::TrustedNow;
use sha2::{Digest, Sha256};

use super::remembered::Remembered;
use super::sites::{PARALLEL, remember_all};
use crate::open::Open;
use crate::{CliError, Context};

/// The sites that were asked for, or all that the bucket has, and a time to go by.
pub(super) struct Begun {
    pub sites: Vec<SiteId>,
    /// Sites that the newest run found in no source.
    pub gone: BTreeSet<SiteId>,
    pub clock: TrustedNow,
    /// Sites that are in the bucket and cannot be opened: nobody knows what they need of what all share.
    pub unknown: Vec<String>,
}

pub(super) async fn begin(open: &Open, asked: &[SiteId], context: &Context) -> Result<Begun, CliError> {
    for id in asked {
        super::known_site(open, id).await?;
    }
    if asked.is_empty() && !open.memory.is_whole() {
        remember_all(open, context).await?;
    }
    let known = Remembered::gather(open).await?;
    let mut sites: Vec<SiteId> = match asked {
        [] => known.sites().into_iter().cloned().collect(),
        asked => asked.to_vec(),
    };
    let mut unknown = Vec::new();
    if asked.is_empty() {
        for found in open.engine.repository.sites_besides(&sites).await? {
            match found {
                Ok(site) => {
                    open.engine.memory.note_site(&site);
                    sites.push(site.id().clone());
                }
                Err(error) if error.fault() == Fault::Damage => unknown.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    sites.sort();
    sites.dedup();
    let newest = newest_commits(open, &known, &sites).await?;
    let sites = newest.into_iter().filter(|(_, newest)| *newest > Generation(0)).map(|(site, _)| site).collect();
    let clock = open.engine.repository.trusted_now(Timestamp::now()).await?;
    let gone = known.seen.into_values().filter(|seen| seen.outcome == RunOutcome::Vanished);
    Ok(Begun { sites, gone: gone.map(|seen| seen.site).collect(), clock, unknown })
}

/// The newest commit of each site; fewer than this host or the newest run has seen is damage.
async fn newest_commits(
    open: &Open,
    known: &Remembered,
    sites: &[SiteId],
) -> Result<Vec<(SiteId, Generation)>, CliError> {
    let asked = sites.iter().map(async |id| (id, open.engine.repository.newest_generation(id).await));
    let mut asked = stream::iter(asked).buffered(PARALLEL);
    let mut found = Vec::new();
    while let Some((id, newest)) = asked.next().await {
        let newest = newest?;
        let by_run = known.seen.get(id).map(|seen| seen.generation);
        let by_host = known.rows.get(id).map(|row| row.head.generation);
        let seen = by_run.max(by_host).unwrap_or(Generation(0));
        if newest < seen {
            let lost = lifeboat_repo::Error::RolledBack { site: id.clone(), found: newest.0, known: seen };
            return Err(lost.into());
        }
        found.push((id.clone(), newest));
    }
    Ok(found)
}

/// The hash of what a plan consists of, as it is shown and approved.
pub(super) fn plan_hash(lines: impl IntoIterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is written for whoever reads it in a year: short, and without what moves a terminal's cursor.
pub(super) fn check_words(what: &str, text: &str) -> Result<(), CliError> {
    const CHARACTERS_MAX: usize = 500;
    if text.chars().any(char::is_control) || text.chars().count() > CHARACTERS_MAX {
        return Err(CliError::usage(format!("{what} is one line of text")).with_hint(format!(
            "at most {CHARACTERS_MAX} characters, none of them a line break or another control character"
        )));
    }
    Ok(())
}
