//! The nights: all sites are new, none has changed, some have.

use lifeboat_bench::Outcome;

use crate::Options;
use crate::fleet::Fleet;
use crate::ours::{Lifeboat, Place, Said};
use crate::report::{Report, Task};

/// Three nights of one fleet, from an empty repository on.
pub fn measure(
    place: &Place,
    fleet: &mut Fleet,
    (options, round): (&Options, usize),
    report: &mut Report,
) -> Outcome<()> {
    let name = format!("night-{}-{}-{round}", place.name(), fleet.sites);
    let lifeboat = Lifeboat::init((place, &options.dir), &name, &fleet.source())?;
    let mut night = |task: Task, published: usize| {
        let said = lifeboat.night(fleet.sites, published)?;
        add(report, task, (place, fleet.sites), &said)
    };
    night(Task::FirstNight, fleet.sites)?;
    night(Task::Unchanged, 0)?;
    let changed = fleet.change(options.changed)?;
    let said = lifeboat.night(fleet.sites, changed)?;
    add(report, Task::Changed, (place, fleet.sites), &said)?;
    lifeboat.expect_all(fleet.sites).map(|_| ())
}

fn add(report: &mut Report, task: Task, (place, sites): (&Place, usize), said: &Said) -> Outcome<()> {
    let requests = said.number("requests")?;
    report.add(task, place.name(), sites, (said.cost, Some(requests)));
    Ok(())
}
