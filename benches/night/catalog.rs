//! What people and monitoring ask about a fleet, of few sites and of many: what they read is in the catalog.
//!
//! Both fleets were backed up twice before, so that the catalog knows them and a run has found them unchanged.

use lifeboat_bench::Outcome;

use crate::Options;
use crate::fleet::Fleet;
use crate::ours::{Lifeboat, Place, Said};
use crate::report::{Report, Task};

pub struct Known<'a> {
    fleet: &'a Fleet,
    lifeboat: Lifeboat,
}

impl<'a> Known<'a> {
    pub fn make(fleet: &'a Fleet, options: &Options) -> Outcome<Self> {
        let name = format!("catalog-{}", fleet.sites);
        let lifeboat = Lifeboat::init((&Place::Directory, &options.dir), &name, &fleet.source())?;
        lifeboat.night(fleet.sites, fleet.sites)?;
        lifeboat.night(fleet.sites, 0)?;
        lifeboat.expect_all(fleet.sites)?; // a catalog that was begun anew asks the bucket once for all that are there
        Ok(Self { fleet, lifeboat })
    }

    fn measure(&self, task: Task, report: &mut Report) -> Outcome<()> {
        let (sites, site) = (self.fleet.sites, self.fleet.some_site());
        let said = match task {
            Task::Sites => self.lifeboat.expect_all(sites)?,
            Task::Points => {
                let said = self.lifeboat.run(&["points", &site])?;
                match said.count("point", |_| true)? {
                    1 => said,
                    points => return Err(format!("a site of one point: site=`{site}`, found=`{points}`").into()),
                }
            }
            Task::Rebuild => self.listed(&["catalog", "rebuild"])?,
            _ => self.listed(&["status"])?,
        };
        report.add(task, Place::Directory.name(), sites, (said.cost, None));
        Ok(())
    }

    /// Fails unless the command has counted every site.
    fn listed(&self, command: &[&str]) -> Outcome<Said> {
        let said = self.lifeboat.run(command)?;
        said.expect(&command.join(" "), "sites", self.fleet.sites)?;
        Ok(said)
    }
}

/// Each command in turn by both; who begins changes from round to round.
pub fn one_round(fleets: &[Known<'_>; 2], round: usize, report: &mut Report) -> Outcome<()> {
    for task in Task::OF_THE_CATALOG {
        for turn in 0..fleets.len() {
            fleets[(turn + round) % fleets.len()].measure(task, report)?;
        }
    }
    Ok(())
}
