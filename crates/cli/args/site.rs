//! Arguments of the verbs that look at sites and take snapshots.

use std::fmt;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand};
use lifeboat_model::{EntryPath, IdError, PathError, SiteId, SourceName};

pub(super) fn site_id(text: &str) -> Result<SiteId, IdError> {
    SiteId::new(text)
}

pub(super) fn source_name(text: &str) -> Result<SourceName, IdError> {
    SourceName::new(text)
}

#[derive(Debug, Subcommand)]
pub enum SourcesCommand {
    /// List what each source holds, what it leaves out and what stands in the way
    Inspect {
        /// Only this source
        #[arg(value_parser = source_name)]
        source: Option<SourceName>,
    },
}

#[derive(Debug, Args)]
pub struct SitesArgs {
    /// Only this site, in detail
    #[arg(value_parser = site_id)]
    pub site: Option<SiteId>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["sites", "all"])))]
pub struct BackupArgs {
    /// The sites to back up
    #[arg(value_name = "SITE", value_parser = site_id)]
    pub sites: Vec<SiteId>,
    /// Every site that any source lists
    #[arg(long)]
    pub all: bool,
    /// Sites that are gone and data that shrank are meant: do not treat them as a failure
    #[arg(long)]
    pub accept_loss: bool,
}

#[derive(Debug, Args)]
pub struct PointsArgs {
    /// The site
    #[arg(value_parser = site_id)]
    pub site: SiteId,
}

/// Which moment; read later, because a duration ago needs a clock.
const AT_HELP: &str =
    "The moment: RFC 3339 with a zone, `latest`, `snapshot:ID`, or a duration ago such as `2h` [default: latest]";

#[derive(Debug, Args)]
pub struct LsArgs {
    /// The site, and where in it
    #[arg(value_name = "SITE[:PART[/ENTRY]]")]
    pub what: EntrySpec,
    #[arg(long, value_name = "T", help = AT_HELP)]
    pub at: Option<String>,
    /// Everything below, not one level
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

#[derive(Debug, Args)]
pub struct CatArgs {
    /// The entry
    #[arg(value_name = "SITE:PART/ENTRY")]
    pub what: EntrySpec,
    #[arg(long, value_name = "T", help = AT_HELP)]
    pub at: Option<String>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The site
    #[arg(value_parser = site_id)]
    pub site: SiteId,
    #[arg(long, value_name = "T", help = AT_HELP)]
    pub at: Option<String>,
    /// Only this part, or this entry of it and what is below
    #[arg(long, value_name = "PART[/ENTRY]")]
    pub only: Option<super::OnlyArg>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only this site
    #[arg(value_parser = site_id)]
    pub site: Option<SiteId>,
    /// Read stored data back and verify every chunk; with a number, only that share of the packs
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "100",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub read_data: Option<u8>,
    /// Compare the newest good point of each site with the live data
    #[arg(long)]
    pub against_source: bool,
}

/// `SITE`, `SITE:PART` or `SITE:PART/ENTRY`.
///
/// A site id may hold colons itself: the part begins after the first colon that a source name
/// follows. `SITE:` is the whole site, for an id that would be read otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySpec {
    pub site: SiteId,
    pub source: Option<SourceName>,
    pub entry: EntryPath,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntrySpecError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Path(#[from] PathError),
}

impl FromStr for EntrySpec {
    type Err = EntrySpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = |site: &str| Ok(Self { site: SiteId::new(site)?, source: None, entry: EntryPath::root() });
        if let Some(site) = text.strip_suffix(':') {
            return whole(site);
        }
        let split = text.match_indices(':').find(|(at, _)| {
            let part = text[at + 1..].split('/').next().unwrap_or_default();
            *at > 0 && SourceName::new(part).is_ok()
        });
        let Some((at, _)) = split else { return whole(text) };
        let (part, entry) = split_part(&text[at + 1..])?;
        Ok(Self { site: SiteId::new(&text[..at])?, source: Some(part), entry })
    }
}

/// `PART` or `PART/ENTRY`; a slash at the end is forgiven.
pub(super) fn split_part(text: &str) -> Result<(SourceName, EntryPath), EntrySpecError> {
    let (part, entry) = text.split_once('/').unwrap_or((text, ""));
    let entry = entry.strip_suffix('/').unwrap_or(entry);
    Ok((SourceName::new(part)?, EntryPath::new(entry)?))
}

impl fmt::Display for EntrySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.site)?;
        if let Some(source) = &self.source {
            write!(f, ":{source}")?;
        }
        if !self.entry.is_root() {
            write!(f, "/{}", self.entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_and_what_is_in_it_are_told_apart() {
        let check = |text: &str, want: Option<(&str, Option<&str>, &str)>| {
            let got = text.parse::<EntrySpec>().ok();
            let got = got
                .as_ref()
                .map(|spec| (spec.site.as_str(), spec.source.as_ref().map(SourceName::as_str), spec.entry.to_string()));
            let want = want.map(|(site, source, entry)| (site, source, entry.to_string()));
            assert_eq!(got, want, "{text}");
        };
        check("acme", Some(("acme", None, "")));
        check("acme:notes", Some(("acme", Some("notes"), "")));
        check("acme:files/", Some(("acme", Some("files"), "")));
        check("acme:files/a/b.txt", Some(("acme", Some("files"), "a/b.txt")));
        check("acme:files/a:b/c", Some(("acme", Some("files"), "a:b/c")));
        check("urn:x:files/a", Some(("urn:x", Some("files"), "a")));
        check("acme:files//a", None);
        check("acme:files/../b", None);
        check("acme:", Some(("acme", None, "")));
        check("urn:x:", Some(("urn:x", None, "")));
        check("Acme Inc: Berlin", Some(("Acme Inc: Berlin", None, "")));
        check("", None);
        check(":", None);
    }
}
