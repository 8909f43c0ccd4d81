//! Changes that are only on this host: what a capture kept while the store did not answer.
//!
//! No moment of them is restorable before they are in the bucket.

use lifeboat_engine::EpochSeen;
use lifeboat_model::{SourceName, Timestamp};
use lifeboat_repo::Spill;
use serde_json::json;

use crate::config::Config;
use crate::open::Open;
use crate::output::{Output, bytes};

/// A stretch of a source's history.
pub struct OnlyHere {
    /// Till then the bucket has everything.
    pub from: Timestamp,
    pub till: Timestamp,
    pub bytes: u64,
}

impl OnlyHere {
    /// Of an epoch that is followed; `None`: there is nothing. The inner error: it cannot be read, and why.
    pub fn of(open: &Open, source: &SourceName, seen: &EpochSeen) -> Option<Result<Self, String>> {
        let directory = &open.config.repository.catalog;
        let found = match Spill::new(&open.engine.repository, directory, source, 0).look() {
            Ok(found) => found?,
            Err(error) => return Some(Err(error.to_string())),
        };
        let from = seen.till.unwrap_or(seen.epoch.facts.begun_at);
        // One that is over, or of another epoch, is removed by whoever captures next.
        let is_newer = found.facts.epoch == seen.epoch.id && found.mark.at > from;
        is_newer.then_some(Ok(Self { from, till: found.mark.at, bytes: found.bytes }))
    }

    pub fn text(&self) -> String {
        let Self { from, till, bytes: kept } = self;
        format!(
            "from {from} to {till} only on this host ({}), until `lifeboat capture` reaches the store",
            bytes(*kept)
        )
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({ "from": self.from.to_string(), "till": self.till.to_string(), "bytes": self.bytes })
    }
}

/// When the store does not answer: files alone say that there is something, and how much.
pub fn warn_of_files(config: &Config, output: &Output) {
    for source in config.sources.iter().filter(|source| source.can_be_captured()) {
        if let Some(kept) = Spill::bytes_on_disk(&config.repository.catalog, &source.name) {
            output.event("only_here", json!({ "source": source.name.as_str(), "bytes": kept }));
            let hint = "they are in no bucket yet: with this host they would be lost, a gap";
            output.warn(&format!("{}: changes are only on this host: {}", source.name, bytes(kept)), Some(hint));
        }
    }
}
