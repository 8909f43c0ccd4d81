//! What a source's change log says of the time between two looks: who wrote to the sites that differ, and whether a
//! restore's transaction wrote to a site that is not its own.
//!
//! Only the shared blocks are read: counts by transaction, site and table. No value of anybody's row is.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use lifeboat_model::{Lsn, SharedFacts, SiteCount, SiteId, SourceName, Timestamp, Touched, TransactionId, Visibility};

use crate::damage::{epochs_since, segments_since};
use crate::{Engine, Error};

/// As many as are told of.
const CROSSED_MAX: usize = 20;

/// What is asked of one log.
pub(super) struct Question<'q> {
    pub source: SourceName,
    /// Where to begin to read.
    pub since: Timestamp,
    /// What the first look saw, what the second one saw, and where the log was then; `None`: nobody knows.
    pub between: Option<(Visibility, Visibility, Lsn)>,
    /// The transactions of restores, and whose they were.
    pub restores: BTreeMap<TransactionId, SiteId>,
    /// Cases with a restore that may have written, in a transaction that nobody knows.
    pub unknown: BTreeSet<SiteId>,
    /// Bystanders that differ.
    pub asked: BTreeSet<SiteId>,
    /// The recovery's sites: a transaction that wrote to one of them may be of a restore that was killed before it could
    /// say so, and explains nothing.
    pub cases: &'q BTreeSet<SiteId>,
}

/// The answer.
#[derive(Debug, Default)]
pub(super) struct Logged {
    /// Those of the asked that other transactions wrote to between the looks.
    pub wrote: BTreeSet<SiteId>,
    /// What restores wrote to others: each site, table and transaction once.
    pub touched: Vec<Touched>,
    /// The restores that the log has.
    pub restores: BTreeSet<TransactionId>,
    /// Restores with changes whose site nobody could tell.
    pub unrouted: BTreeSet<TransactionId>,
    /// The recovery's sites that other transactions wrote to between the looks: its users', or of a restore that was
    /// killed before it could say so.
    pub written: BTreeSet<SiteId>,
    /// Some other transaction between the looks has changes whose site nobody could tell.
    pub has_stray: bool,
    /// What may be a restore's that was killed, and wrote to other sites as well: the first of it.
    pub crossed: Vec<Crossed>,
    /// When the log was written last.
    pub sealed_at: Option<Timestamp>,
    /// Whether the log has come to the second look, so that all is in it that there is.
    pub is_there: bool,
}

/// One transaction that nobody of the recovery knows wrote to a case that has an unknown one, and to another site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crossed {
    pub site: SiteId,
    pub case: SiteId,
    pub transaction: TransactionId,
}

pub(super) async fn read(engine: &Engine, question: &Question<'_>) -> Result<Logged, Error> {
    let log = engine.change_log(&question.source).await?;
    let (mut logged, mut complete_till) = (Logged::default(), Lsn(0));
    for epoch in epochs_since(&log, question.since).await? {
        let segments = segments_since(&log, epoch.id, question.since).await?;
        let mut facts = std::pin::pin!(log.facts(segments).await?);
        while let Some((_, footer, shared)) = facts.try_next().await? {
            engine.check_cancelled()?;
            (complete_till, logged.sealed_at) = (footer.span.complete_till, Some(footer.sealed_at));
            logged.take(question, &shared);
        }
    }
    // What comes next in the server's log begins there: all before it is complete.
    logged.is_there = question.between.as_ref().is_some_and(|(_, _, till)| complete_till.0 + 1 >= till.0);
    Ok(logged)
}

impl Logged {
    /// Takes what one segment tells.
    fn take(&mut self, question: &Question<'_>, shared: &SharedFacts) {
        for facts in &shared.transactions {
            let id = facts.head.id;
            let place = |count: &SiteCount| {
                Some((shared.sites.get(count.site as usize)?, shared.tables.get(count.table as usize)?))
            };
            let places = facts.counts.iter().filter_map(place);
            match question.restores.get(&id) {
                Some(own) => {
                    self.restores.insert(id);
                    if facts.unrouted > 0 {
                        self.unrouted.insert(id);
                    }
                    places.filter(|(site, _)| *site != own).for_each(|(site, table)| {
                        self.touch(Touched {
                            site: site.clone(),
                            source: question.source.clone(),
                            table: table.clone(),
                            transaction: id,
                            by: own.clone(),
                        });
                    });
                }
                None if question.is_between(id) => {
                    self.has_stray |= facts.unrouted > 0;
                    self.take_other(question, id, &places.map(|(site, _)| site).collect());
                }
                None => {}
            }
        }
    }

    /// Takes what a transaction wrote to that is no restore's, as far as anybody knows.
    fn take_other(&mut self, question: &Question<'_>, id: TransactionId, sites: &BTreeSet<&SiteId>) {
        let (cases, others): (Vec<&SiteId>, Vec<&SiteId>) =
            sites.iter().partition(|site| question.cases.contains(**site));
        if cases.is_empty() {
            return self.wrote.extend(others.into_iter().filter(|site| question.asked.contains(*site)).cloned());
        }
        if let Some(case) = cases.iter().find(|case| question.unknown.contains(**case)) {
            let room = CROSSED_MAX.saturating_sub(self.crossed.len());
            let crossed = |site: &SiteId| Crossed { site: site.clone(), case: (*case).clone(), transaction: id };
            self.crossed.extend(others.into_iter().take(room).map(crossed));
        }
        self.written.extend(cases.into_iter().cloned());
    }

    /// Whether a restore of the site may have written in a transaction that nobody knows. Surely not where the log is
    /// whole, and no such transaction is in it.
    pub fn may_have_written(&self, site: &SiteId) -> bool {
        !self.is_there || self.has_stray || self.written.contains(site)
    }

    fn touch(&mut self, touched: Touched) {
        if !self.touched.contains(&touched) {
            self.touched.push(touched);
        }
    }
}

impl Question<'_> {
    /// Whether the second look saw what the first one did not.
    fn is_between(&self, id: TransactionId) -> bool {
        self.between.as_ref().is_some_and(|(first, second, _)| !first.sees(id) && second.sees(id))
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{ChangeCounts, TransactionFacts, TransactionHead};

    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::new(name).unwrap()
    }

    /// Transactions as (id, places of sites they wrote to, unrouted).
    fn facts(transactions: &[(u64, &[u32], u64)]) -> SharedFacts {
        let one = |(id, sites, unrouted): &(u64, &[u32], u64)| TransactionFacts {
            head: TransactionHead { id: TransactionId(*id), commit: Lsn(*id), committed_at: Timestamp(0) },
            counts: sites
                .iter()
                .map(|site| SiteCount { site: *site, table: 0, counts: ChangeCounts::default() })
                .collect(),
            unrouted: *unrouted,
        };
        SharedFacts {
            sites: ["acme", "globex", "initech"].map(site).to_vec(),
            tables: vec!["public.t".into()],
            transactions: transactions.iter().map(one).collect(),
            ..SharedFacts::default()
        }
    }

    fn answer(transactions: &[(u64, &[u32], u64)]) -> Logged {
        let sees = |text: &str| Visibility::parse(text).unwrap();
        let question = Question {
            source: SourceName::new("app").unwrap(),
            since: Timestamp(0),
            between: Some((sees("10:12:10"), sees("20:20:"), Lsn(99))),
            restores: [(TransactionId(15), site("acme")), (TransactionId(16), site("acme"))].into(),
            unknown: [site("acme")].into(),
            asked: [site("globex"), site("initech")].into(),
            cases: &[site("acme")].into(),
        };
        let mut logged = Logged::default();
        logged.take(&question, &facts(transactions));
        logged
    }

    // Explains invariant: bystanders-proven
    #[test]
    fn a_restore_s_change_of_another_site_is_named_and_only_others_changes_between_the_looks_explain_one() {
        let logged = answer(&[(15, &[0], 0), (16, &[0, 2, 2], 0), (14, &[1], 0)]);
        let touched: Vec<_> = logged.touched.iter().map(|one| (one.site.as_str(), one.transaction.0)).collect();
        assert_eq!(touched, [("initech", 16)]);
        assert_eq!(logged.wrote, [site("globex")].into());
        assert_eq!(logged.restores.len(), 2);
        for (id, is_between) in [(9, false), (10, true), (11, false), (12, true), (19, true), (20, false)] {
            assert_eq!(answer(&[(id, &[1], 0)]).wrote.contains(&site("globex")), is_between, "{id}");
        }
    }

    #[test]
    fn a_restore_explains_no_change_and_what_nobody_can_route_is_told() {
        // The last one may be of a restore that was killed before it could say which it was.
        let logged = answer(&[(15, &[1], 0), (16, &[0], 3), (17, &[1, 0], 0)]);
        assert!(logged.wrote.is_empty());
        assert_eq!(logged.unrouted, [TransactionId(16)].into());
        assert_eq!(logged.written, [site("acme")].into());
        let crossed = Crossed { site: site("globex"), case: site("acme"), transaction: TransactionId(17) };
        assert_eq!((logged.crossed, logged.has_stray), (vec![crossed], false));
    }

    #[test]
    fn only_a_whole_log_says_that_a_restore_wrote_nothing() {
        let check = |transactions: &[(u64, &[u32], u64)], is_there: bool, want: bool| {
            let logged = Logged { is_there, ..answer(transactions) };
            assert_eq!(logged.may_have_written(&site("acme")), want, "{transactions:?}, there: {is_there}");
        };
        check(&[(15, &[0], 0), (17, &[1], 0)], true, false);
        check(&[(15, &[0], 0), (17, &[1], 0)], false, true);
        check(&[(17, &[0], 0)], true, true);
        check(&[(17, &[1], 2)], true, true);
        // Before the first look, and after the second one.
        check(&[(9, &[0], 1), (20, &[0], 1)], true, false);
    }
}
