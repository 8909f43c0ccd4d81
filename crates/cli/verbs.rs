//! One file a verb: arguments in, an [`Outcome`] out.

mod assess;
mod audit;
mod backup;
mod bench;
mod capture;
mod catalog;
mod check;
mod completions;
mod demo;
mod drill;
mod find_damage;
mod forget;
mod hold;
mod init;
mod key;
mod lifecycle;
mod look;
mod plan;
mod points;
mod prune;
mod recover;
mod remembered;
mod restore;
mod run;
mod shred;
mod sites;
mod sources;
mod status;
mod undelete;

use lifeboat_model::{PointInTime, SiteId, Timestamp};
use lifeboat_repo::Site;

use crate::args::{CatalogCommand, Command, SourcesCommand};
use crate::open::Open;
use crate::output::Outcome;
use crate::{CliError, Context, bad_point, suggest};

/// Runs one verb to its end.
pub fn run(command: Command, context: &Context) -> Result<Outcome, CliError> {
    match command {
        Command::Init(args) => init::run(&args, context),
        Command::Key(command) => key::run(&command, context),
        Command::Sources(SourcesCommand::Inspect { source }) => sources::inspect(source.as_ref(), context),
        Command::Sites(args) => sites::run(&args, context),
        Command::Backup(args) => backup::run(&args, context),
        Command::Capture(args) => capture::run(&args, context),
        Command::Status(args) => status::run(&args, context),
        Command::Points(args) => points::run(&args, context),
        Command::Ls(args) => look::ls(&args, context),
        Command::Cat(args) => look::cat(&args, context),
        Command::Diff(args) => restore::diff(&args, context),
        Command::Restore(args) => restore::run(&args, context),
        Command::Undo(args) => restore::undo(&args, context),
        Command::Recover(command) => recover::run(&command, context),
        Command::Drill(args) => drill::run(&args, context),
        Command::Run => run::run(context),
        Command::Catalog(CatalogCommand::Rebuild) => catalog::rebuild(context),
        Command::Bench(command) => bench::run(&command, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Demo(args) => demo::run(&args, context),
        Command::FindDamage(args) => find_damage::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Forget(args) => forget::run(&args, context),
        Command::Undelete(args) => undelete::run(&args, context),
        Command::Hold(args) => hold::run(&args, context),
        Command::Prune(args) => prune::run(&args, context),
        Command::Shred(args) => shred::run(&args, context),
        Command::Audit(command) => audit::run(&command, context),
    }
}

/// What `--at` asks for.
fn point(at: Option<&str>) -> Result<PointInTime, CliError> {
    PointInTime::parse(at.unwrap_or("latest"), Timestamp::now()).map_err(|error| bad_point(&error))
}

/// The site as the bucket has it, or a refusal that offers the nearest names.
async fn known_site(open: &Open, id: &SiteId) -> Result<Site, CliError> {
    of_known_site(open, id, open.engine.site(id).await).await
}

/// Of a site that a source lists.
fn never_backed_up(id: &SiteId) -> CliError {
    CliError::usage(format!("the site was never backed up: site=`{id}`"))
        .with_hint(format!("make its first point with `lifeboat backup {id}`"))
}

/// What came of a verb that looked for the site itself: where there is none, the nearest names are offered.
async fn of_known_site<T>(open: &Open, id: &SiteId, came: Result<T, lifeboat_engine::Error>) -> Result<T, CliError> {
    match came {
        Err(lifeboat_engine::Error::NoSuchSite { .. }) => {}
        other => return Ok(other?),
    }
    let health = tokio::task::block_in_place(|| open.engine.fleet.look(&Default::default(), true));
    let listed: Vec<SiteId> = health.into_iter().flat_map(|source| source.sites).collect();
    if listed.contains(id) {
        return Err(never_backed_up(id));
    }
    let run = open.engine.repository.newest_runs(1).await?.pop();
    let mut known: Vec<SiteId> = run.into_iter().flat_map(|run| run.sites).map(|site| site.site).collect();
    known.extend(listed);
    Err(suggest::unknown_site(id, &known))
}
