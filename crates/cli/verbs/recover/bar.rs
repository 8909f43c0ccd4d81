//! What a terminal shows while a recovery runs: how many sites are back, how far those at work are, and what holds it up.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use lifeboat_control::recovery::Watch;
use lifeboat_engine::Journal;
use lifeboat_model::{CaseStage, SiteId};

use super::report::LivePage;
use super::tell::{self, Stand};
use crate::output::{Output, bytes};
use crate::progress::Steps;

/// One bar for the whole: sites, rate, time left, and who is at work.
pub(super) struct Bar {
    pub bar: Steps,
    pub page: Option<LivePage>,
    output: Output,
    /// The ends that programs were told: of a site, and of which attempt.
    told: Mutex<HashSet<(SiteId, u32)>>,
    /// Why no site may begin now.
    held: Mutex<Option<String>>,
    /// How far those at work are: bytes, of the plan's.
    reached: Mutex<BTreeMap<SiteId, (u64, u64)>>,
}

impl Bar {
    pub fn new(journal: &Journal, page: Option<LivePage>, output: &Output) -> Self {
        let bar = Steps::telling("restoring", journal.plan().cases.len() as u64, output);
        let (told, held, reached) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { bar, page, output: output.clone(), told, held, reached }
    }
}

impl Watch for Bar {
    fn moved(&self, journal: &Journal) {
        let state = journal.state();
        let counts = state.counts();
        self.bar.at((counts.restored + counts.failed + counts.skipped) as u64);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let held = held.map_or_else(String::new, |why| format!("; waiting: {why}"));
        let reached = {
            let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
            reached.retain(|site, _| state.case(site).is_some_and(|case| case.stage == CaseStage::Running));
            so_far(&reached)
        };
        self.bar.doing(&format!("{}{reached}{held}", Stand::of(journal).progress()));
        if let Some(page) = &self.page {
            page.show(journal);
        }
        if !self.output.is_json() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for case in state.cases.iter().filter(|case| case.ended_at.is_some()) {
            if told.insert((case.site.clone(), case.attempts)) {
                self.output.event("case", tell::case_json(case));
            }
        }
    }

    // Shown when the journal is looked at again, which is after each message of a worker.
    fn beat(&self, site: &SiteId, at: u64, of: u64) {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).insert(site.clone(), (at.min(of), of));
    }

    fn held(&self, why: Option<&str>) {
        if let Some(why) = why {
            self.output.event("waiting", serde_json::json!({ "why": why }));
            self.output.say(format!("waiting: {why}"));
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = why.map(str::to_owned);
    }
}

/// `; 37 % of acme`, or of all that are at work; nothing where there are no bytes to be written.
fn so_far(reached: &BTreeMap<SiteId, (u64, u64)>) -> String {
    let (at, of) = reached.values().fold((0, 0), |(at, of), (one_at, one_of)| (at + one_at, of + one_of));
    if of == 0 {
        return String::new();
    }
    let percent = u128::from(at) * 100 / u128::from(of);
    match reached.len() {
        1 => format!("; {percent} % of {}", reached.keys().map(SiteId::as_str).collect::<String>()),
        sites => format!("; {percent} % of {sites} sites ({} of {})", bytes(at), bytes(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Manner;
    use crate::testing::captured;

    #[test]
    fn the_bar_tells_how_far_those_at_work_are() {
        let check = |reached: &[(&str, u64, u64)], want: &str| {
            let of = |(site, at, of): &(&str, u64, u64)| (SiteId::new(*site).unwrap(), (*at, *of));
            assert_eq!(so_far(&reached.iter().map(of).collect()), want);
        };
        check(&[], "");
        check(&[("acme", 0, 0)], "");
        check(&[("acme", 37, 100)], "; 37 % of acme");
        check(&[("acme", 1 << 20, 2 << 20), ("globex", 0, 2 << 20)], "; 25 % of 2 sites (1.0 MiB of 4.0 MiB)");
    }

    #[test]
    fn what_workers_tell_is_what_is_shown() {
        let (streams, _captured) = captured("");
        let output = Output::new(streams, Manner::default());
        let bar = Bar {
            bar: Steps::new("restoring", &output),
            page: None,
            output,
            told: Mutex::default(),
            held: Mutex::default(),
            reached: Mutex::default(),
        };
        let site = SiteId::new("acme").unwrap();
        bar.beat(&site, 1, 4);
        bar.beat(&site, 5, 4); // more was written than planned
        assert_eq!(so_far(&bar.reached.lock().unwrap()), "; 100 % of acme");
    }
}
