//! The arguments: the whole contract of the command line, as clap reads it.
//!
//! Names, flags and exit codes are a contract (`docs/cli.md` is made from what is here).
//!
//! What is not here: what a verb does (`verbs`), and how a wrong argument is told (`usage`).

mod audit;
mod bench;
mod capture;
mod drill;
mod lifecycle;
mod recover;
mod restore;
mod site;

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};

pub use audit::{AuditCommand, AuditListArgs};
pub use bench::{
    BenchArgs, BenchBackupArgs, BenchCaptureArgs, BenchCommand, BenchRecoverArgs, BenchRestoreArgs, DataArg, FleetArgs,
    SkewArg, SweepArgs,
};
pub use capture::{CaptureArgs, StatusArgs};
pub use drill::DrillArgs;
pub use lifecycle::{ForgetArgs, HoldArgs, PruneArgs, ShredArgs, UndeleteArgs};
pub use recover::{
    RecoverAcceptArgs, RecoverCommand, RecoverIdArgs, RecoverPageArgs, RecoverPlanArgs, RecoverPriorityArgs,
    RecoverReportArgs, RecoverRetryArgs, RecoverRunArgs, RecoverSkipArgs, RecoverStatusArgs, RecoverUndoArgs,
};
pub use restore::{ApprovalArgs, OnlyArg, RestoreArgs, UndoArgs, VerifyDepth};
pub use site::{
    BackupArgs, CatArgs, CheckArgs, DiffArgs, EntrySpec, EntrySpecError, FindDamageArgs, LsArgs, PointsArgs, SitesArgs,
    SourcesCommand,
};

/// Backs up every tenant on its own, and puts one - or hundreds - back in place, verified, with
/// nobody else touched.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat",
    bin_name = "lifeboat",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = AFTER_HELP
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Data goes to stdout, talk and progress bars to stderr. With --json, stdout has one JSON object a line; \
the last one is {\"event\":\"done\",…} or {\"event\":\"error\",…}.

Exit codes: 0 ok · 1 bug · 2 usage · 3 partly done · 4 objective breached · 10 operator must act · \
11 try again · 12 fenced by another owner · 20 damage · 130 cancelled.

Start with `lifeboat demo`, then `lifeboat init`.";

const RUN_ABOUT: &str = "\
Each site is backed up as its policy's `schedule` says, all stored data is read back within `check.every`, drills are held \
every `drill.every`, and changes are followed where a policy has `capture = true`. What is passing is waited for.

SIGTERM and Ctrl-C: ends what is under way within `daemon.grace`, and exits with 0; a second one ends it at once. SIGHUP: reads \
the configuration again; one with a mistake is refused, and the old one stays in force. One daemon of a repository runs on a host \
(exit 12).";

/// Under which the help lists what every command takes.
const GLOBAL: &str = "Global options";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// The configuration file; ./lifeboat.toml when it is not given
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE", env = "LIFEBOAT_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// One JSON object a line on stdout
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Say more on stderr (twice: everything)
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// How log lines on stderr look
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole story on local files: back up, lose, restore, prove, undo
    Demo(DemoArgs),
    /// Make a repository, its keys and a lifeboat.toml; never overwrites
    Init(InitArgs),
    /// Prove the recovery key, or change master keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// What the configured sources hold, and what is not covered
    #[command(subcommand)]
    Sources(SourcesCommand),
    /// List the fleet, or one site's parts, size and last point
    Sites(SitesArgs),
    /// Take snapshots of sites
    Backup(BackupArgs),
    /// Follow changes into the change log, for a restore to any moment
    Capture(CaptureArgs),
    /// May I sleep? What is captured, how far each site's points reach, and what is not as promised
    Status(StatusArgs),
    /// List a site's restorable points, with mark and state
    Points(PointsArgs),
    /// List what a site held at a point
    Ls(LsArgs),
    /// Write one entry of a site at a point to stdout
    Cat(CatArgs),
    /// Compare the live site with a point
    Diff(DiffArgs),
    /// Put a site back: in place, beside, or exported
    Restore(RestoreArgs),
    /// Put back what a restore replaced or removed
    Undo(UndoArgs),
    /// Bring many sites back by one approved plan
    #[command(subcommand)]
    Recover(RecoverCommand),
    /// Rehearse: rebuild sites in a scratch place, verified, measure how long it takes, and take them away again
    Drill(DrillArgs),
    /// Find which transactions and runs removed most, whose, and the last good moment
    FindDamage(FindDamageArgs),
    /// Verify what is stored
    Check(CheckArgs),
    /// Mark points that no rule keeps, and say why each of the others is kept; nothing is deleted
    Forget(ForgetArgs),
    /// Bring forgotten points back
    Undelete(UndeleteArgs),
    /// Keep all points of sites, whatever the rules say, or release what keeps them
    Hold(HoldArgs),
    /// Condemn what no point needs any more, and delete what was condemned long ago
    Prune(PruneArgs),
    /// Erase a site for good, by destroying its keys
    Shred(ShredArgs),
    /// Who did what to which sites, and whether that record is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The daemon: captures, backs up, reads back and rehearses as the configuration says, until SIGTERM
    #[command(after_help = RUN_ABOUT)]
    Run,
    /// The local cache of what the bucket says
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Measure restores, backups, recoveries and captures, with a table, JSON and a plot
    #[command(subcommand, after_help = bench::ABOUT)]
    Bench(BenchCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave everything in this new directory, to look around
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Tell it on a database that all sites share, made for it on this PostgreSQL: a URL, env:NAME or file:PATH
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// The size of every file, in percent: for tests
    #[arg(long, default_value_t = 100, hide = true, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub scale: u32,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the repository is: file:///DIR or s3://BUCKET/PREFIX?endpoint=URL&region=NAME
    /// [default: the configuration's, else file:// of ./lifeboat-repository]
    #[arg(long, value_name = "URL")]
    pub repo: Option<String>,
    /// Write the recovery key into this new file instead of showing it
    #[arg(long, value_name = "FILE")]
    pub recovery_key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Read the recovery key and prove that it opens every site
    Verify {
        /// The file that holds the recovery key [default: ask on the terminal, or read stdin]
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
    },
    /// Make one more key, beside those that open the repository already
    #[command(group(ArgGroup::new("what").required(true).args(["to", "recovery"])))]
    Add {
        /// The file of a new master key; made when it is missing
        #[arg(value_name = "KEY-FILE")]
        to: Option<PathBuf>,
        /// Make a recovery key instead, and show it once
        #[arg(long)]
        recovery: bool,
    },
    /// Make a new master key that takes the place of the one in use
    Rotate {
        /// The file of the new master key; made when it is missing
        #[arg(value_name = "KEY-FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Read everything anew from the bucket
    Rebuild,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}
