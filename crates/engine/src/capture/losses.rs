//! Losses: a site that vanishes or shrinks beyond its limit while it is captured is told of within seconds, and its
//! points are held, so that nothing that tidies up takes them.
//!
//! What is not here: what did it, and the last good moment (`damage`): an alarm only says where to look. That an alarm
//! could not be raised stops no capture.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lifeboat_model::{EntryKind, HoldReason, RowChange, SiteId, TransactionHead};
use lifeboat_source::Source;
use lifeboat_source::postgres::PostgresSource;

use super::CaptureNews;
use crate::backup::hold_once;
use crate::{Engine, Error};

/// A loss is added up over this long.
const WINDOW: Duration = Duration::from_secs(600);
/// Fewer rows are nobody's alarm.
const ROWS_MIN: u64 = 10;
/// Sites that are looked at at once.
const SITES_AT_ONCE: usize = 16;

#[derive(Default)]
pub(super) struct Losses {
    since: Option<Instant>,
    by_site: BTreeMap<SiteId, Loss>,
    /// Sites with a loss since anybody looked.
    new: BTreeSet<SiteId>,
    /// Rows of a site in its newest good snapshot, once they were asked for.
    rows: HashMap<SiteId, u64>,
    told: BTreeSet<(SiteId, &'static str)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Loss {
    inserted: u64,
    deleted: u64,
    /// Its own row was deleted, and not inserted again.
    is_gone: bool,
    /// A table of its own was dropped.
    has_dropped: bool,
    last: Option<TransactionHead>,
}

impl Loss {
    fn net(self) -> u64 {
        self.deleted.saturating_sub(self.inserted)
    }
}

impl Losses {
    /// Takes a change of a site's rows; `is_root`: of its own row.
    pub fn note(&mut self, site: &SiteId, change: &RowChange, is_root: bool, head: &TransactionHead) {
        let loss = self.by_site.entry(site.clone()).or_default();
        match change {
            RowChange::Insert { .. } => (loss.inserted, loss.is_gone) = (loss.inserted + 1, loss.is_gone && !is_root),
            RowChange::Delete { .. } => {
                (loss.deleted, loss.is_gone, loss.last) = (loss.deleted + 1, loss.is_gone || is_root, Some(*head));
                self.new.insert(site.clone());
            }
            _ => {}
        }
    }

    /// A table that was the site's own was dropped.
    pub fn note_dropped(&mut self, site: &SiteId, head: &TransactionHead) {
        let loss = self.by_site.entry(site.clone()).or_default();
        (loss.has_dropped, loss.last) = (true, Some(*head));
        self.new.insert(site.clone());
    }

    /// Looks at what was lost since the last time, holds the points of sites that lost too much, and says so.
    pub async fn settle(&mut self, engine: &Engine, source: &PostgresSource) -> Vec<CaptureNews> {
        let looked_at: Vec<(SiteId, Loss)> = std::mem::take(&mut self.new)
            .into_iter()
            .filter_map(|site| self.by_site.get(&site).map(|loss| (site.clone(), *loss)))
            .filter(|(_, loss)| loss.is_gone || loss.has_dropped || loss.net() >= ROWS_MIN)
            .collect();
        let known = &self.rows;
        let looks = looked_at.into_iter().map(|(site, loss)| async move {
            let found = judge(engine, source, (&site, loss), known.get(&site).copied()).await;
            (site, found)
        });
        let found: Vec<_> = futures_util::stream::iter(looks).buffered(SITES_AT_ONCE).collect().await;
        let mut news = Vec::new();
        for (site, found) in found {
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(%error, %site, "cannot look at what the site lost");
                Judged::default()
            });
            self.rows.extend(found.rows.map(|rows| (site.clone(), rows)));
            let Some((reason, note)) = found.alarm else { continue };
            if self.told.insert((site.clone(), if reason == HoldReason::Vanished { "vanished" } else { "shrank" })) {
                news.push(CaptureNews::Lost { site, reason, note });
            }
        }
        if self.since.get_or_insert_with(Instant::now).elapsed() >= WINDOW {
            *self = Self { told: std::mem::take(&mut self.told), ..Self::default() };
        }
        news
    }
}

#[derive(Default)]
struct Judged {
    rows: Option<u64>,
    alarm: Option<(HoldReason, String)>,
}

async fn judge(
    engine: &Engine,
    source: &PostgresSource,
    (id, loss): (&SiteId, Loss),
    known: Option<u64>,
) -> Result<Judged, Error> {
    let is_gone = loss.is_gone
        || (loss.has_dropped && !tokio::task::block_in_place(|| source.has_place(id)).map_err(Error::from)?);
    let Some(mut site) = engine.repository.site(id, engine.memory.known_head(id)).await? else {
        return Ok(Judged::default());
    };
    let rows = match (known, site.state().latest()) {
        (Some(rows), _) => rows,
        // One that was born and is gone again, before any backup saw it.
        (None, None) if is_gone => 0,
        (None, None) => return Ok(Judged::default()),
        (None, Some(record)) => {
            let manifest = site.manifest(&record.manifest).await?;
            match manifest.part(source.name()) {
                None => 0,
                Some((number, _)) => manifest.entries(&site, number).await?.iter().map(rows_of).sum(),
            }
        }
    };
    let limit = (engine.policy)(id).shrink_limit;
    let by = loss
        .last
        .map_or_else(String::new, |head| format!("; last by transaction {} at {}", head.id, head.committed_at));
    let alarm = if is_gone {
        Some((HoldReason::Vanished, format!("it was deleted while it was captured{by}")))
    } else if loss.net() as f64 > rows as f64 * limit {
        let net = loss.net();
        Some((HoldReason::Shrank, format!("{net} rows of {rows} went while it was captured{by}")))
    } else {
        None
    };
    if let Some((reason, note)) = &alarm {
        hold_once(&mut site, *reason, note).await?;
        engine.memory.note_site(&site);
    }
    Ok(Judged { rows: Some(rows), alarm })
}

fn rows_of(entry: &lifeboat_model::Entry) -> u64 {
    match entry.kind {
        EntryKind::Table { rows, .. } => rows,
        _ => 0,
    }
}
