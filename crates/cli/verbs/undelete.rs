//! `lifeboat undelete SITE`: forgotten points come back, as long as they are not condemned.

use lifeboat_engine::lifecycle as ends;
use lifeboat_model::{AuditAction, SnapshotId, SnapshotRecord};

use crate::args::UndeleteArgs;
use crate::audit::Audited;
use crate::output::{Outcome, plural};
use crate::{CliError, Context, words};

pub fn run(args: &UndeleteArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let mut site = super::known_site(&open, &args.site).await?;
        let forgotten: Vec<SnapshotRecord> = site.state().forgotten.clone();
        let is_asked = |record: &&SnapshotRecord| args.snapshot.is_empty() || args.snapshot.contains(&record.id);
        let back: Vec<&SnapshotRecord> = forgotten.iter().filter(is_asked).collect();
        let missing = args.snapshot.iter().find(|id| !forgotten.iter().any(|record| record.id == **id));
        if let Some(id) = missing {
            let is_there = site.state().snapshot(*id).is_some();
            let what = if is_there { "is not forgotten" } else { "is there no more" };
            return Err(CliError::usage(format!("the point {what}: site=`{}`, snapshot=`{id}`", args.site)).with_hint(
                format!("`lifeboat points {}` lists those that are there and those that are forgotten", args.site),
            ));
        }
        if back.is_empty() {
            context.output.line(format!("No point of {} is forgotten.", args.site));
            return Ok(Outcome::ok().with("site", args.site.as_str()).with("undeleted", 0));
        }
        let ids: Vec<SnapshotId> = back.iter().map(|record| record.id).collect();
        let mut audited = Audited::new(&open, context).sites([&args.site]);
        audited.details(plural(ids.len() as u64, "point"));
        audited.begin().await?;
        let undeleted = ends::undelete(&open.engine, &mut site, ids).await;
        let outcome = Outcome::ok().with("site", args.site.as_str()).with("undeleted", back.len());
        let outcome = undeleted.map(|_| outcome).map_err(CliError::from);
        let outcome = audited.end(AuditAction::Undeleted, outcome).await?;
        for record in &back {
            context.output.event("point", words::snapshot(record));
            context.output.line(format!("{} of {} is back", record.id, record.cut_till));
        }
        context.output.say(format!(
            "The next `lifeboat forget` decides about them anew: to keep them, `lifeboat hold {} --note TEXT`.",
            args.site
        ));
        Ok(outcome)
    })
}
