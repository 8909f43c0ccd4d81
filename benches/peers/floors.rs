//! What nobody can be faster than: a plain copy, compression alone, reads alone.

use std::process::Command;

use lifeboat_bench::Outcome;
use lifeboat_bench::process::run;

use crate::contender::{At, Contender, Measured, Restores};
use crate::errands::{self, Errand};
use crate::ours::LIFEBOAT;
use crate::place::{self, Place};

/// `cp -a` of the plain tree, made durable: a restore without packs, checks and a plan.
pub struct Copy;

impl Copy {
    pub const NAME: &str = "cp -a, sync -f";
}

impl Contender for Copy {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn restore(&self, at: &At<'_>) -> Outcome<Measured> {
        let mut command = Command::new("sh");
        command.args(["-c", r#"cp -a "$1" "$2" && sync -f "$2""#, "copy"]);
        command.args([at.original(), at.live()]);
        Ok(Measured { cost: run(&mut command, &at.round.dir)?.0, ..Measured::default() })
    }
}

/// By one thread and as our chunks are compressed: the floor of a first backup.
pub struct Compression;

impl Contender for Compression {
    fn name(&self) -> &'static str {
        "zstd -3 alone"
    }

    fn backup(&self, at: &At<'_>) -> Outcome<Option<Measured>> {
        let mut command = errands::command(Errand::Compress, &[&at.live()])?;
        Ok(Some(Measured { cost: run(&mut command, &at.round.dir)?.0, ..Measured::default() }))
    }

    fn backup_again(&self, _at: &At<'_>) -> Outcome<Option<Measured>> {
        Ok(None)
    }

    fn restores(&self) -> Restores {
        Restores::Nothing
    }

    fn restore(&self, _at: &At<'_>) -> Outcome<Measured> {
        Err("it restores nothing".into())
    }
}

/// What our restore reads, and nothing else: the ceiling of a restore from S3.
pub struct RangedReads;

impl RangedReads {
    pub const NAME: &str = "ranged GETs alone";
}

impl Contender for RangedReads {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn left_out(&self, place: &Place) -> Option<&'static str> {
        matches!(place, Place::Directory).then_some("a directory takes no requests over a network")
    }

    fn restores(&self) -> Restores {
        Restores::Bytes
    }

    fn restore(&self, at: &At<'_>) -> Outcome<Measured> {
        let Place::S3(server) = at.place else { return Err("it reads from S3".into()) };
        let dir = at.dir(LIFEBOAT)?;
        let list = dir.join("reads");
        let site = at.site.name();
        let mut plan = errands::command(Errand::PlanReads, &[dir.as_os_str(), site.as_ref(), list.as_os_str()])?;
        run(plan.envs(place::credentials()), &at.round.dir)?;
        let url = server.url(&at.prefix("lifeboat"));
        let mut read = errands::command(Errand::Read, &[url.as_ref(), list.as_os_str()])?;
        let (cost, said) = run(read.envs(place::credentials()), &at.round.dir)?;
        Measured { cost, ..Measured::default() }.with_said(&said)
    }
}
