//! Which transactions are one incident: a script that ran, a deployment that went wrong. Pure.
//!
//!   worst transaction that is left ─▶ those near to it and alike ─▶ one incident ─▶ the next worst …
//!
//! Near: not [`GAP`] after the one before. Alike: as heavy, up to a [`LIKENESS`]th; or taking rows from the
//! same several tables, as when whole sites of other sizes are deleted one by one; or from a table from which
//! ordinary work takes none; or saying the same note. And what took rows from a site of the incident right
//! before or after ([`SITE_GAP`]) is of it too where a script goes from table to table.
//!
//! Invariant (before-the-first): the last good moment of a site is the one before the first transaction of the
//! incident that took something from it, never a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_model::{ChangeCounts, EpochId, SiteId, SourceName, Timestamp, TransactionHead};

use super::collect::{Note, Suspect, add, rank_of};
use super::{BySite, LastGood, Restorable, TableName};

#[cfg(test)]
mod tests;

/// Incidents that are told of a log.
const INCIDENTS_MAX: usize = 20;
/// Between two transactions of one incident.
const GAP: Duration = Duration::from_secs(30);
/// Between two that say the same note.
const NOTE_GAP: Duration = Duration::from_secs(600);
/// What was said so long before an incident may tell of it.
const NOTE_BEFORE: Duration = Duration::from_secs(600);
const NOTES_SHOWN_MAX: usize = 5;
/// Of one incident are transactions up to so many times lighter than its heaviest.
const LIKENESS: u64 = 20;
/// Ordinary work takes rows from one or two tables together.
const TABLES_MIN: usize = 3;
/// Between two statements of a script on the same site.
const SITE_GAP: Duration = Duration::from_secs(2);
/// Transactions that delete, of so much ordinary work as can tell what is rare in it; and of how many one is rare.
const ORDINARY_MIN: usize = 50;
const RARE: usize = 100;

/// What belongs together, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub source: SourceName,
    pub epoch: EpochId,
    pub transactions: u64,
    pub first: TransactionHead,
    pub last: TransactionHead,
    pub counts: ChangeCounts,
    /// Changes whose site nobody could tell.
    pub unrouted: u64,
    /// Whose rows, those that lost most first.
    pub sites: Vec<SiteDamage>,
    /// Tables that were emptied as a whole: of every site.
    pub emptied: Vec<String>,
    /// Tables, and columns as `table.column`, that are no more.
    pub dropped: Vec<String>,
    /// Tables with another structure since.
    pub altered: Vec<String>,
    /// What applications said then, or shortly before.
    pub notes: Vec<IncidentNote>,
    /// Other sites from which rows were deleted meanwhile: ordinary work, or a part of it.
    pub others: u64,
}

/// What an incident did to one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteDamage {
    pub site: SiteId,
    pub counts: ChangeCounts,
    pub transactions: u64,
    /// Those that took most first.
    pub tables: Vec<TableDamage>,
    /// Tables of its own, and columns, that were dropped or emptied.
    pub gone: Vec<String>,
    pub last_good: LastGood,
    /// What a restore gives of that.
    pub restorable: Restorable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDamage {
    pub table: String,
    pub counts: ChangeCounts,
}

/// What an application wrote by `pg_logical_emit_message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentNote {
    pub at: Timestamp,
    pub prefix: String,
    pub text: String,
    /// It was said by a transaction of the incident.
    pub is_own: bool,
}

impl Incident {
    /// The moment before all of it.
    pub fn last_good(&self) -> LastGood {
        LastGood { before: self.first }
    }

    /// What is worst: the larger, the worse.
    pub fn rank(&self) -> (bool, u64) {
        let own = self.sites.iter().any(|site| !site.gone.is_empty());
        rank_of(!self.emptied.is_empty() || !self.dropped.is_empty() || own, &self.counts, self.unrouted)
    }
}

/// Incidents of one log, worst first. `suspects` and `notes` are in the order of the history.
pub(super) fn incidents(source: &SourceName, suspects: Vec<Suspect>, notes: &[Note]) -> Vec<Incident> {
    let mut by_rank: Vec<usize> = (0..suspects.len()).collect();
    by_rank.sort_by_key(|at| std::cmp::Reverse((suspects[*at].rank(), std::cmp::Reverse(*at))));
    let said = Said::of(notes);
    let mut is_taken = vec![false; suspects.len()];
    let mut found = Vec::new();
    for seed in by_rank {
        if found.len() >= INCIDENTS_MAX || suspects[seed].rank() == (false, 0) {
            break;
        }
        if is_taken[seed] {
            continue;
        }
        let members = members(&suspects, &is_taken, seed, &said);
        members.iter().for_each(|at| is_taken[*at] = true);
        found.push(members);
    }
    let mut incidents: Vec<Incident> =
        found.iter().filter_map(|members| incident(source, &suspects, members, notes)).collect();
    incidents.sort_by(|a, b| b.rank().cmp(&a.rank()).then_with(|| a.first.commit.cmp(&b.first.commit)));
    incidents
}

/// What each transaction said.
struct Said<'n>(BTreeMap<(EpochId, lifeboat_model::Lsn), BTreeSet<(&'n str, &'n str)>>);

impl<'n> Said<'n> {
    fn of(notes: &'n [Note]) -> Self {
        let mut by_commit: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for note in notes {
            by_commit.entry((note.epoch, note.commit)).or_default().insert((note.prefix.as_str(), note.text.as_str()));
        }
        Self(by_commit)
    }

    fn same(&self, one: &Suspect, other: &Suspect) -> bool {
        let said = |suspect: &Suspect| self.0.get(&(suspect.epoch, suspect.head.commit));
        said(one).zip(said(other)).is_some_and(|(one, other)| !one.is_disjoint(other))
    }
}

/// Places of those that belong to the seed's incident, ascending.
fn members(suspects: &[Suspect], is_taken: &[bool], seed: usize, said: &Said<'_>) -> Vec<usize> {
    let by_seed = |at: usize, is_near: bool| {
        (is_near && are_alike(&suspects[seed], &suspects[at])) || said.same(&suspects[seed], &suspects[at])
    };
    let alike = neighbours(suspects, is_taken, vec![seed], &by_seed);
    let members = with_same_sites(suspects, is_taken, alike);
    let rare = rare_tables(suspects, &members);
    let by_table =
        |at: usize, is_near: bool| is_near && tables_deleted(&suspects[at]).intersection(&rare).next().is_some();
    let members = neighbours(suspects, is_taken, members, &by_table);
    with_same_sites(suspects, is_taken, members)
}

/// With those that belong to them and are not taken yet, each near to one before or after. Ascending.
fn neighbours(
    suspects: &[Suspect],
    is_taken: &[bool],
    members: Vec<usize>,
    belongs: &dyn Fn(usize, bool) -> bool,
) -> Vec<usize> {
    let mut all: BTreeSet<usize> = members.iter().copied().collect();
    let (Some(first), Some(last)) = (members.first().copied(), members.last().copied()) else { return members };
    let after: Box<dyn Iterator<Item = usize>> = Box::new(first..suspects.len());
    let ways = [(after, first), (Box::new((0..=last).rev()), last)];
    for (way, mut newest) in ways {
        for at in way {
            let gap = distance(&suspects[at], &suspects[newest]);
            if gap.is_none_or(|gap| gap > NOTE_GAP) {
                break;
            }
            let is_near = gap.is_some_and(|gap| gap <= GAP);
            if all.contains(&at) || (!is_taken[at] && belongs(at, is_near)) {
                all.insert(at);
                newest = at;
            }
        }
    }
    all.into_iter().collect()
}

/// Tables that an incident took rows from, and work at other times does not.
fn rare_tables<'s>(suspects: &'s [Suspect], members: &[usize]) -> BTreeSet<&'s TableName> {
    let (Some(first), Some(last)) = (members.first(), members.last()) else { return BTreeSet::new() };
    let is_far = |other: &Suspect, at: usize| distance(other, &suspects[at]).is_none_or(|gap| gap > NOTE_GAP);
    let elsewhen = suspects[..*first].iter().filter(|other| is_far(other, *first));
    let elsewhen = elsewhen.chain(suspects[*last..].iter().filter(|other| is_far(other, *last)));
    let (mut ordinary, mut taken) = (0, BTreeMap::<&TableName, usize>::new());
    for tables in elsewhen.map(tables_deleted).filter(|tables| !tables.is_empty()) {
        ordinary += 1;
        tables.into_iter().for_each(|table| *taken.entry(table).or_default() += 1);
    }
    let is_rare = |table: &&TableName| taken.get(*table).copied().unwrap_or_default() * RARE <= ordinary;
    match ordinary >= ORDINARY_MIN {
        true => members.iter().flat_map(|at| tables_deleted(&suspects[*at])).filter(is_rare).collect(),
        false => BTreeSet::new(),
    }
}

/// With what took rows from the same sites right before or after.
fn with_same_sites(suspects: &[Suspect], is_taken: &[bool], members: Vec<usize>) -> Vec<usize> {
    let mut all: BTreeSet<usize> = members.iter().copied().collect();
    let (Some(first), Some(last)) = (members.first().copied(), members.last().copied()) else { return members };
    let mut at_last: BTreeMap<&SiteId, usize> = BTreeMap::new();
    let near =
        |at: usize, other: usize, gap| distance(&suspects[at], &suspects[other]).is_some_and(|found| found <= gap);
    let from = (0..first).rev().take_while(|at| near(*at, first, GAP)).last().unwrap_or(first);
    let till = (last..suspects.len()).take_while(|at| near(*at, last, GAP)).last().unwrap_or(last);
    // Once forwards and once backwards: what follows a member on its site, and what leads to one.
    for at in (from..=till).chain((from..=till).rev()) {
        let mut sites = suspects[at].sites.iter().filter(|(_, tables)| tables.values().any(|one| one.deletes > 0));
        let follows = sites.any(|(site, _)| at_last.get(site).is_some_and(|last| near(at, *last, SITE_GAP)));
        if all.contains(&at) || (follows && !is_taken[at]) {
            all.insert(at);
            // What took several tables at once did it in one transaction: nothing leads to it, and nothing follows.
            if tables_deleted(&suspects[at]).len() < TABLES_MIN {
                at_last.extend(suspects[at].sites.keys().map(|site| (site, at)));
            }
        }
    }
    all.into_iter().collect()
}

/// `None`: in two epochs nothing is near.
fn distance(one: &Suspect, other: &Suspect) -> Option<Duration> {
    let (one_at, other_at) = (one.head.committed_at, other.head.committed_at);
    (one.epoch == other.epoch).then(|| one_at.since(other_at).max(other_at.since(one_at)))
}

fn are_alike(seed: &Suspect, other: &Suspect) -> bool {
    let ((_, seed_weight), (takes_all, weight)) = (seed.rank(), other.rank());
    // A seed that emptied tables and took no row by itself is like no work on rows.
    if takes_all || (seed_weight > 0 && weight.saturating_mul(LIKENESS) >= seed_weight) {
        return true;
    }
    let (of_seed, of_other) = (tables_deleted(seed), tables_deleted(other));
    let shared = of_seed.intersection(&of_other).count();
    of_seed.len() >= TABLES_MIN && shared * 4 >= of_seed.len() * 3
}

fn tables_deleted(suspect: &Suspect) -> BTreeSet<&TableName> {
    let tables = suspect.sites.values().flatten();
    tables.filter(|(_, counts)| counts.deletes > 0).map(|(table, _)| table).collect()
}

fn incident(source: &SourceName, suspects: &[Suspect], members: &[usize], notes: &[Note]) -> Option<Incident> {
    let (first, last) = (*members.first()?, *members.last()?);
    let of = members.iter().map(|at| &suspects[*at]);
    let texts = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
    let sites = sites_of(of.clone());
    let mut counts = ChangeCounts::default();
    sites.iter().for_each(|site| add(&mut counts, &site.counts));
    let hit: BTreeSet<&SiteId> = sites.iter().map(|site| &site.site).collect();
    let meanwhile = suspects[first..=last].iter().filter(|other| other.epoch == suspects[first].epoch);
    let losing = meanwhile
        .flat_map(|other| &other.sites)
        .filter(|(site, tables)| !hit.contains(site) && tables.values().any(|counts| counts.deletes > 0));
    let others = losing.map(|(site, _)| site).collect::<BTreeSet<_>>().len() as u64;
    Some(Incident {
        source: source.clone(),
        epoch: suspects[first].epoch,
        transactions: members.len() as u64,
        first: suspects[first].head,
        last: suspects[last].head,
        counts,
        unrouted: of.clone().map(|one| one.unrouted).sum(),
        emptied: texts(of.clone().flat_map(|one| &one.emptied).map(ToString::to_string).collect()),
        dropped: texts(of.clone().flat_map(|one| one.dropped.clone()).collect()),
        altered: texts(of.clone().flat_map(|one| one.altered.clone()).collect()),
        notes: notes_beside(of, notes),
        others,
        sites,
    })
}

fn sites_of<'s>(members: impl Iterator<Item = &'s Suspect>) -> Vec<SiteDamage> {
    struct Sum<'s> {
        before: TransactionHead,
        transactions: u64,
        tables: BTreeMap<&'s TableName, ChangeCounts>,
        gone: BTreeSet<String>,
    }
    let mut sums: BySite<Sum<'_>> = BySite::new();
    for suspect in members {
        let hit: BTreeSet<&SiteId> = suspect.sites.keys().chain(suspect.own.keys()).collect();
        for site in hit {
            // In the order of the history: the first one stays.
            let sum = sums.entry(site.clone()).or_insert_with(|| Sum {
                before: suspect.head,
                transactions: 0,
                tables: BTreeMap::new(),
                gone: BTreeSet::new(),
            });
            sum.transactions += 1;
            for (table, counts) in suspect.sites.get(site).into_iter().flatten() {
                add(sum.tables.entry(table).or_default(), counts);
            }
            sum.gone.extend(suspect.own.get(site).into_iter().flatten().cloned());
        }
    }
    let weight = |counts: &ChangeCounts| std::cmp::Reverse(rank_of(false, counts, 0));
    let site_damage = |(site, sum): (SiteId, Sum<'_>)| {
        let mut counts = ChangeCounts::default();
        sum.tables.values().for_each(|table| add(&mut counts, table));
        let tables = sum.tables.into_iter().map(|(table, counts)| TableDamage { table: table.to_string(), counts });
        let mut tables: Vec<TableDamage> = tables.collect();
        tables.sort_by_key(|table| weight(&table.counts));
        let last_good = LastGood { before: sum.before };
        let gone = sum.gone.into_iter().collect();
        let restorable = Restorable::Unknown;
        SiteDamage { site, counts, transactions: sum.transactions, tables, gone, last_good, restorable }
    };
    let mut sites: Vec<SiteDamage> = sums.into_iter().map(site_damage).collect();
    sites.sort_by_key(|site| (std::cmp::Reverse(site.gone.len()), weight(&site.counts)));
    sites
}

/// What the incident's own transactions said, and then what was said nearest before it.
fn notes_beside<'s>(members: impl Iterator<Item = &'s Suspect>, notes: &[Note]) -> Vec<IncidentNote> {
    let members: Vec<&Suspect> = members.collect();
    let (Some(first), Some(last)) = (members.first(), members.last()) else { return Vec::new() };
    let commits: BTreeSet<_> = members.iter().map(|member| (member.epoch, member.head.commit)).collect();
    let (from, till) = (first.head.committed_at.saturating_sub(NOTE_BEFORE), last.head.committed_at);
    let mut beside: Vec<IncidentNote> = Vec::new();
    let said = notes.iter().filter(|note| note.epoch == first.epoch).map(|note| {
        let is_own = commits.contains(&(note.epoch, note.commit));
        IncidentNote { at: note.at, prefix: note.prefix.clone(), text: note.text.clone(), is_own }
    });
    let mut said: Vec<IncidentNote> = said.filter(|note| note.is_own || (from..=till).contains(&note.at)).collect();
    // Own ones first, of the others the newest.
    said.sort_by_key(|note| (!note.is_own, if note.is_own { note.at.0 } else { note.at.0.saturating_neg() }));
    for note in said {
        let is_new = !beside.iter().any(|one| (&one.prefix, &one.text) == (&note.prefix, &note.text));
        if is_new && beside.len() < NOTES_SHOWN_MAX {
            beside.push(note);
        }
    }
    beside
}
