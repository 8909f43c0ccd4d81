//! Arguments of the verbs that write to a site.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args, ValueEnum};
use lifeboat_model::{EntryPath, IdError, RestoreId, SiteId, SourceName};

use super::site::{AT_HELP, EntrySpecError, site_id, split_part};
use crate::CliError;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").args(["beside", "export"])))]
pub struct RestoreArgs {
    /// The site to put back
    #[arg(value_parser = site_id)]
    pub site: SiteId,
    #[arg(long, value_name = "T", help = AT_HELP)]
    pub at: Option<String>,
    /// Only this part, or this entry of it and what is below; of a database a table, or rows of it by
    /// primary key: app/public.issues, 'app/public.issues[42]', 'app/public.issues[1..99]'
    #[allow(rustdoc::broken_intra_doc_links, reason = "keys in brackets are no links")]
    #[arg(long, value_name = "PART[/ENTRY]", value_parser = OsStringValueParser::new().try_map(OnlyArg::from_os))]
    pub only: Option<OnlyArg>,
    /// Write beside the live site, under NAME in place of the site id; rows into a schema of that name,
    /// or a database where each site has one
    #[arg(long, value_name = "NAME", value_parser = site_id)]
    pub beside: Option<SiteId>,
    /// Write self-contained files into this new or empty directory
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Read everything back from disk after writing it
    #[arg(long, value_name = "DEPTH")]
    pub verify: Option<VerifyDepth>,
    /// Leave out what is damaged in the repository, and name it (never zeros)
    #[arg(long)]
    pub skip_damaged: bool,
    /// Replace a restore of this site that is open; its next switch fails
    #[arg(long)]
    pub take_over: bool,
    /// In place, bring back only what is missing now: what is there stays as it is, and what differs is
    /// listed
    #[arg(long)]
    pub keep_later: bool,
    /// Everything that was captured but this one transaction: what came later is kept
    #[arg(long, value_name = "N", conflicts_with = "at")]
    pub without_xid: Option<u64>,
    /// Compare content before planning: exact counts instead of upper limits, at the price of
    /// reading the live site
    #[arg(long)]
    pub exact: bool,
    #[command(flatten)]
    pub approval: ApprovalArgs,
}

impl RestoreArgs {
    /// Refuses what does not go together with `--keep-later`, and says what does.
    pub fn check_keep_later(&self) -> Result<(), CliError> {
        let elsewhere = "what is written elsewhere has nothing later in it: leave --keep-later out";
        let others = [
            (self.beside.is_some(), "--beside", elsewhere),
            (self.export.is_some(), "--export", elsewhere),
            (self.without_xid.is_some(), "--without-xid", "it keeps what came later by itself: leave --keep-later out"),
            (self.exact, "--exact", "--keep-later always compares first: leave --exact out"),
        ];
        match others.into_iter().find(|(given, ..)| *given && self.keep_later) {
            Some((_, flag, hint)) => {
                Err(CliError::usage(format!("--keep-later does not go together with {flag}")).with_hint(hint))
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The restore to undo, as its receipt names it (`restore_id` or `undo_id`)
    #[arg(value_parser = restore_id)]
    pub restore: RestoreId,
    /// Replace a restore of this site that is open; its next switch fails
    #[arg(long)]
    pub take_over: bool,
    #[command(flatten)]
    pub approval: ApprovalArgs,
}

fn restore_id(text: &str) -> Result<RestoreId, IdError> {
    RestoreId::parse(text)
}

/// How a destructive command is approved.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("approval").args(["dry_run", "yes", "plan"])))]
pub struct ApprovalArgs {
    /// Show the plan and its hash, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Run the plan without asking, unless it has conflicts
    #[arg(short, long)]
    pub yes: bool,
    /// Run the plan only if it is the one with this hash; also approves its conflicts
    #[arg(long, value_name = "HASH")]
    pub plan: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyDepth {
    // No help of its own: `--verify` says it.
    Read,
}

/// `TABLE[KEYS]`: the bracket that opens is the first one outside of double quotes.
fn split_keys(entry: &[u8]) -> Option<(EntryPath, String)> {
    let text = std::str::from_utf8(entry).ok()?.strip_suffix(']')?;
    let mut is_quoted = false;
    let opens = text.char_indices().find(|(_, character)| {
        is_quoted ^= *character == '"';
        *character == '[' && !is_quoted
    });
    let (table, keys) = text.split_at(opens?.0);
    Some((EntryPath::new(table.as_bytes()).ok().filter(|table| !table.is_root())?, keys.get(1..)?.to_owned()))
}

/// `PART`, `PART/ENTRY` or `PART/TABLE[KEYS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyArg {
    pub source: SourceName,
    /// The root means the whole part; `None`: it is no path, so only `keys` can be meant.
    pub entry: Option<EntryPath>,
    /// The entry read as `TABLE[KEYS]`.
    pub keys: Option<(EntryPath, String)>,
}

impl OnlyArg {
    /// As the shell gave it: an entry's name is bytes, and need not be text.
    pub(super) fn from_os(text: OsString) -> Result<Self, EntrySpecError> {
        let Some((source, entry)) = split_part(text.as_bytes()) else {
            let text = text.to_string_lossy();
            // Not a part's name: the error says why.
            let source = SourceName::new(text.split('/').next().unwrap_or_default())?;
            return Ok(Self { source, entry: Some(EntryPath::root()), keys: None });
        };
        let keys = split_keys(entry);
        let entry = match EntryPath::new(entry) {
            Err(_) if keys.is_some() => None,
            entry => Some(entry?),
        };
        Ok(Self { source, entry, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_and_keys_of_a_table_are_told_apart() {
        let check = |text: &str, entry: Option<&str>, keys: Option<(&str, &str)>| {
            let only = OnlyArg::from_os(text.into()).unwrap();
            let got = only.keys.as_ref().map(|(table, keys)| (table.to_string(), keys.clone()));
            assert_eq!(only.entry.map(|entry| entry.to_string()).as_deref(), entry, "{text}");
            assert_eq!(got, keys.map(|(table, keys)| (table.to_owned(), keys.to_owned())), "{text}");
        };
        check("app", Some(""), None);
        check("app/public.issues", Some("public.issues"), None);
        check("app/issues[42]", Some("issues[42]"), Some(("issues", "42")));
        check("app/issues[1..99]", Some("issues[1..99]"), Some(("issues", "1..99")));
        // No path can be so; and brackets within a quoted name open nothing.
        check("app/pages[http://a/../b]", None, Some(("pages", "http://a/../b")));
        check(r#"app/"a[1]"[x]"#, Some(r#""a[1]"[x]"#), Some((r#""a[1]""#, "x")));
        check(r#"app/"a[1]""#, Some(r#""a[1]""#), None);
        check("files/photo[1].png", Some("photo[1].png"), None);
        assert!(OnlyArg::from_os("files/a//b".into()).is_err());
    }
}
