//! One round: every contender once at each task, in an order that turns from round to round.

use lifeboat_bench::Outcome;

use crate::contender::{At, Contender, Restores, Round};
use crate::errands::{self, Errand};
use crate::options::Leg;
use crate::place::Place;
use crate::report::{Report, Task};

type Contenders<'a> = Vec<&'a dyn Contender>;

/// What every process of a peer takes before it works, measured with a repository in a directory: no round
/// trip is taken off with it.
pub fn starts(at: &At<'_>, contenders: &Contenders<'_>, report: &mut Report) -> Outcome<()> {
    let round = Round { data: at.round.data, dir: at.round.dir.join("starts"), number: at.round.number };
    let at = At { round: &round, site: at.site, place: &Place::Directory };
    for contender in contenders {
        if let Some(cost) = contender.start(&at)? {
            report.start(contender.name(), cost);
        }
    }
    Ok(())
}

/// One task after the other, each by everybody, so that what is compared was done at one time.
pub fn leg(at: &At<'_>, contenders: &Contenders<'_>, leg: Leg, report: &mut Report) -> Outcome<()> {
    let bytes = errands::send(Errand::Warm, &[&at.live()])?;
    report.sized(at.site, bytes.parse()?);
    let turn = |task: usize| rotated(contenders, at.round.number + task);
    for contender in contenders {
        contender.prepare(at)?;
    }
    for contender in turn(0) {
        if let Some(measured) = contender.backup(at)?
            && leg.first
        {
            report.add(Task::FirstBackup(at.site), contender.name(), measured);
        }
    }
    for contender in turn(1).into_iter().filter(|_| leg.unchanged) {
        if let Some(measured) = contender.backup_again(at)? {
            report.add(Task::UnchangedBackup(at.site), contender.name(), measured);
        }
    }
    for contender in turn(2).into_iter().filter(|_| leg.restore) {
        restore(at, contender, report)?;
    }
    Ok(())
}

fn restore(at: &At<'_>, contender: &dyn Contender, report: &mut Report) -> Outcome<()> {
    let restores = contender.restores();
    match restores {
        Restores::Nothing => return Ok(()),
        Restores::Bytes => {}
        Restores::Tree => at.round.take_away(&at.live())?,
    }
    let measured = contender.restore(at)?;
    if restores == Restores::Tree {
        errands::send(Errand::Compare, &[&at.original(), &at.live()])
            .map_err(|error| format!("{}: {error}", contender.name()))?;
    }
    report.add(Task::Restore(at.site), contender.name(), measured);
    Ok(())
}

fn rotated<'a>(contenders: &Contenders<'a>, by: usize) -> Contenders<'a> {
    let mut turned = contenders.clone();
    turned.rotate_left(by % contenders.len().max(1));
    turned
}
