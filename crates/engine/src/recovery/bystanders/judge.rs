//! What two looks and the logs come to: a pure decision, site by site.
//!
//! ```text
//! a restore wrote to it, says the log            touched: the proof has failed
//! digests differ, others wrote to it             changed by its own users
//! digests differ, and no log says who            not proven
//! a look could not read it                       not comparable
//! digests are equal                              equal
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{BystanderLook, BystanderNote, BystanderProof, SiteId, SourceName, Timestamp};

use super::ProofRequest;
use super::logged::Logged;

/// Notes, and touched places, that are kept in the journal.
const KEPT_MAX: usize = 20;

/// How one part, or one site, came through; the worse one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Equal,
    OwnUsers,
    NotComparable,
    NotProven,
}

/// The parts that differ.
pub(super) fn changed(first: &BystanderLook, second: &BystanderLook) -> Vec<(SiteId, SourceName)> {
    let pairs = pairs(first, second).into_iter();
    let differ = pairs.filter(|(_, then, now)| then.is_some() && now.is_some() && then != now);
    differ.map(|((site, source), ..)| (site.clone(), source.clone())).collect()
}

pub(super) fn judge(request: ProofRequest<'_>, logs: &BTreeMap<SourceName, Logged>) -> BystanderProof {
    let ProofRequest { first, second, wrote, must_be_quiet, .. } = request;
    let mut sites: BTreeMap<&SiteId, Verdict> = BTreeMap::new();
    let mut notes = Vec::new();
    for ((site, source), then, now) in pairs(first, second) {
        let (verdict, detail) = match (then, now) {
            (Some(then), Some(now)) if then == now => (Verdict::Equal, None),
            (Some(_), Some(_)) => match logs.get(source) {
                Some(log) if log.wrote.contains(site) => (Verdict::OwnUsers, None),
                Some(log) if log.is_there => {
                    (Verdict::NotProven, Some("it was changed, and its change log does not say by whom"))
                }
                Some(_) => (Verdict::NotProven, Some("it was changed, and its change log has not come so far")),
                None => (Verdict::NotProven, Some("it was changed, and there is no change log that says by whom")),
            },
            (None, None) => (Verdict::NotComparable, Some("it was not read in time, or could not be")),
            _ => (Verdict::NotComparable, Some("it could not be read both times")),
        };
        let worst = sites.entry(site).or_insert(verdict);
        *worst = verdict.max(*worst);
        notes.extend(detail.map(|detail| note(site, source, detail)));
    }
    for (source, log) in logs {
        let unrouted =
            wrote.iter().filter(|wrote| wrote.source == *source && log.unrouted.contains(&wrote.transaction));
        let detail = "its restore has changes in the log whose site nobody could tell";
        notes.extend(unrouted.map(|wrote| note(&wrote.site, source, detail)));
    }
    notes.truncate(KEPT_MAX);
    let mut touched: Vec<_> = logs.values().flat_map(|log| log.touched.iter().cloned()).collect();
    let touched_sites: BTreeSet<SiteId> = touched.iter().map(|one| one.site.clone()).collect();
    touched.truncate(KEPT_MAX);
    let of = |verdict: Verdict| {
        sites.iter().filter(|(site, of)| **of == verdict && !touched_sites.contains(**site)).count() as u64
    };
    BystanderProof {
        proven_at: Timestamp::now(),
        others: first.others,
        looked: sites.len() as u64,
        equal: of(Verdict::Equal),
        own_users: of(Verdict::OwnUsers),
        not_proven: of(Verdict::NotProven),
        not_comparable: of(Verdict::NotComparable),
        transactions: wrote.len() as u64,
        transactions_logged: logs.values().map(|log| log.restores.len() as u64).sum(),
        must_be_quiet,
        notes,
        touched,
    }
}

fn note(site: &SiteId, source: &SourceName, detail: &str) -> BystanderNote {
    BystanderNote { site: site.clone(), source: source.clone(), detail: detail.to_owned() }
}

type Pair<'l> = ((&'l SiteId, &'l SourceName), Option<[u8; 32]>, Option<[u8; 32]>);

/// Each part of the first look, with what the second one saw of it.
fn pairs<'l>(first: &'l BystanderLook, second: &'l BystanderLook) -> Vec<Pair<'l>> {
    let now: BTreeMap<_, _> = second.parts.iter().map(|part| ((&part.site, &part.source), part.digest)).collect();
    let pair = |part: &'l lifeboat_model::BystanderPart| {
        let place = (&part.site, &part.source);
        (place, part.digest, now.get(&place).copied().flatten())
    };
    first.parts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lifeboat_model::{BystanderPart, Touched, TransactionId};

    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::new(name).unwrap()
    }

    fn source() -> SourceName {
        SourceName::new("app").unwrap()
    }

    fn look(parts: &[(&str, Option<u8>)]) -> BystanderLook {
        let part = |(name, digest): &(&str, Option<u8>)| BystanderPart {
            site: site(name),
            source: source(),
            digest: digest.map(|byte| [byte; 32]),
        };
        BystanderLook {
            looked_at: Timestamp(0),
            others: 9,
            moments: Vec::new(),
            parts: parts.iter().map(part).collect(),
        }
    }

    /// (equal, own users, not proven, not comparable, failed)
    fn proof(
        first: &BystanderLook,
        second: &BystanderLook,
        log: Option<Logged>,
        quiet: bool,
    ) -> (u64, u64, u64, u64, bool) {
        let logs = log.map(|log| (source(), log)).into_iter().collect();
        let (cases, patience, must_be_quiet) = (BTreeSet::new(), Duration::ZERO, quiet);
        let proof = judge(ProofRequest { first, second, cases: &cases, wrote: &[], must_be_quiet, patience }, &logs);
        (proof.equal, proof.own_users, proof.not_proven, proof.not_comparable, proof.has_failed())
    }

    #[test]
    fn what_differs_is_cleared_by_its_log_alone_and_fails_only_where_all_must_be_quiet() {
        let first = look(&[("a", Some(1)), ("b", Some(1)), ("c", None), ("d", Some(1))]);
        let second = look(&[("a", Some(1)), ("b", Some(2)), ("c", Some(1))]);
        assert_eq!(proof(&first, &second, None, false), (1, 0, 1, 2, false));
        assert_eq!(proof(&first, &second, None, true), (1, 0, 1, 2, true));
        let wrote = Logged { wrote: [site("b")].into(), ..Logged::default() };
        assert_eq!(proof(&first, &second, Some(wrote), false), (1, 1, 0, 2, false));
        let silent = Logged { is_there: true, ..Logged::default() };
        assert_eq!(proof(&first, &second, Some(silent), false), (1, 0, 1, 2, false));
    }

    #[test]
    fn a_site_that_a_restore_wrote_to_fails_the_proof_whether_it_was_looked_at_or_not() {
        let all = look(&[("a", Some(1)), ("b", Some(1))]);
        for name in ["b", "far away"] {
            let touched = Touched {
                site: site(name),
                source: source(),
                table: "public.t".into(),
                transaction: TransactionId(7),
                by: site("acme"),
            };
            let log = Logged { touched: vec![touched], is_there: true, ..Logged::default() };
            let (equal, .., has_failed) = proof(&all, &all, Some(log), false);
            assert!(has_failed, "{name}");
            assert_eq!(equal, if name == "b" { 1 } else { 2 });
        }
    }
}
