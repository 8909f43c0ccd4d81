//! What two looks and the logs come to: a pure decision, site by site.
//!
//! ```text
//! a restore wrote to it, says the log            touched: the proof has failed
//! digests differ, others wrote to it             changed by its own users
//! digests differ, and no log says who            not proven
//! a look could not read it                       not comparable
//! digests are equal                              equal
//! ```
//!
//! And restore by restore, where its database is captured: is its transaction in the log, with every change's site?

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{BystanderLook, BystanderNote, BystanderProof, SiteId, SourceName, Timestamp};

use super::logged::{Crossed, Logged};
use super::{ProofRequest, RestoreWrote};

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
    let restores = restores(wrote, logs);
    // What may be somebody's damage comes before what is only not known.
    notes.splice(..0, logs.iter().flat_map(|(source, log)| log.crossed.iter().map(move |one| crossed(source, one))));
    notes.extend(restores.notes);
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
        transactions: restores.asked,
        transactions_logged: restores.logged,
        must_be_quiet,
        notes,
        touched,
    }
}

/// What the logs say of the recovery's own transactions.
#[derive(Default)]
struct Restores {
    asked: u64,
    /// Those whose every change was looked at.
    logged: u64,
    notes: Vec<BystanderNote>,
}

fn restores(wrote: &[RestoreWrote], logs: &BTreeMap<SourceName, Logged>) -> Restores {
    let mut told = Restores::default();
    for RestoreWrote { source, site, transaction } in wrote {
        let Some(log) = logs.get(source) else { continue }; // nobody captures it: nothing is to be expected
        let detail = match transaction {
            Some(id) if log.unrouted.contains(id) => "its restore has changes in the log whose site nobody could tell",
            Some(id) if log.restores.contains(id) => {
                (told.asked, told.logged) = (told.asked + 1, told.logged + 1);
                continue;
            }
            Some(_) if log.is_there => "its restore is not in the change log",
            Some(_) => {
                told.asked += 1; // as of all that come later: the numbers say so
                continue;
            }
            None if !log.may_have_written(site) => continue, // it wrote nothing: the log is whole
            None => "a restore of it may have written, and nobody knows in which transaction",
        };
        told.asked += 1;
        told.notes.push(note(site, source, detail));
    }
    told
}

fn crossed(source: &SourceName, Crossed { site, case, transaction }: &Crossed) -> BystanderNote {
    note(
        site,
        source,
        &format!("transaction {transaction} wrote to it and to {case}: it may be a restore's that was killed"),
    )
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
    fn where_all_must_be_quiet_a_look_that_saw_nobody_proves_nothing() {
        let (asked, nobody, one) = (look(&[("a", None), ("b", None)]), look(&[]), look(&[("a", Some(1))]));
        assert_eq!(proof(&asked, &nobody, None, false), (0, 0, 0, 2, false));
        for (first, failed) in [(&asked, true), (&nobody, true), (&one, false)] {
            assert_eq!(proof(first, first, None, true).4, failed, "{first:?}");
        }
        let alone = BystanderLook { others: 0, ..nobody };
        assert!(!proof(&alone, &alone, None, true).4, "there is nobody else");
    }

    #[test]
    fn a_restore_that_the_log_of_its_database_does_not_have_in_whole_is_said_and_fails_where_all_must_be_quiet() {
        let whole = look(&[("z", Some(1))]);
        let restored = |transaction: Option<u64>| RestoreWrote {
            source: source(),
            site: site("acme"),
            transaction: transaction.map(TransactionId),
        };
        let log =
            || Logged { restores: [TransactionId(7), TransactionId(8)].into(), is_there: true, ..Logged::default() };
        let used = || Logged { written: [site("acme")].into(), ..log() };
        let stray = || Logged { has_stray: true, ..log() };
        let behind = || Logged { is_there: false, ..log() };
        let unrouted = || Logged { unrouted: [TransactionId(8)].into(), ..log() };
        let check = |log: Option<Logged>, transaction: Option<u64>, want: (u64, u64), what: &str| {
            let wrote = [restored(Some(7)), restored(transaction)];
            let logs = log.map(|log| (source(), log)).into_iter().collect();
            let (cases, patience) = (BTreeSet::new(), Duration::ZERO);
            let request = ProofRequest {
                first: &whole,
                second: &whole,
                cases: &cases,
                wrote: &wrote,
                must_be_quiet: true,
                patience,
            };
            let proof = judge(request, &logs);
            assert_eq!((proof.transactions, proof.transactions_logged), want, "{what}");
            assert_eq!(
                (proof.has_failed(), proof.notes.len()),
                (want.0 > want.1, (want.0 - want.1) as usize),
                "{what}"
            );
        };
        check(Some(log()), Some(8), (2, 2), "both are in it");
        check(Some(log()), Some(9), (2, 1), "one is missing");
        check(Some(unrouted()), Some(8), (2, 1), "nobody knows whose a change was");
        check(Some(log()), None, (1, 1), "nobody but that restore wrote to the site: it wrote nothing");
        check(Some(used()), None, (2, 1), "somebody wrote to the site");
        check(Some(stray()), None, (2, 1), "somebody wrote somewhere");
        check(Some(behind()), None, (2, 1), "nobody knows yet");
        check(None, Some(8), (0, 0), "it is not captured");
        let empty = Logged { is_there: true, ..Logged::default() };
        check(Some(empty), Some(8), (2, 0), "none is in it");
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
