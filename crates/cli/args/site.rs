//! Arguments of the verbs that look at sites and take snapshots.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use clap::builder::{OsStringValueParser, TypedValueParser};
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
    /// Every site that any source lists; a customer who cannot be a site (behind a link, or for its name)
    /// is told, and the run ends with 3
    #[arg(long)]
    pub all: bool,
    /// Sites that are gone and data that shrank are meant: no failure, now and from now on, and no longer held. With
    /// --all also what a source as a whole has lost, or its new mount
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
pub(super) const AT_HELP: &str = "The moment: RFC 3339 with a zone, a duration ago such as `2h`, `latest`, `snapshot:ID`; of what is captured also \
     `lsn:X`, `before-xid:N`, `before:NOTE` [default: latest]";

#[derive(Debug, Args)]
pub struct LsArgs {
    /// The site, and where in it
    #[arg(value_name = "SITE[:PART[/ENTRY]]", value_parser = OsStringValueParser::new().try_map(EntrySpec::from_os))]
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
    #[arg(value_name = "SITE:PART/ENTRY", value_parser = OsStringValueParser::new().try_map(EntrySpec::from_os))]
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
    #[arg(long, value_name = "PART[/ENTRY]", value_parser = OsStringValueParser::new().try_map(super::OnlyArg::from_os))]
    pub only: Option<super::OnlyArg>,
}

#[derive(Debug, Args)]
pub struct FindDamageArgs {
    /// How far to look back: RFC 3339 with a zone, or a duration ago such as `2h`
    #[arg(long, value_name = "T", default_value = "24h")]
    pub since: String,
    /// Only this source [default: all of them, captured or not]
    #[arg(long, value_name = "SOURCE", value_parser = source_name)]
    pub source: Option<SourceName>,
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
    /// Nothing can bring back what is damaged: mark the points that need it as incomplete, and let the next backup store it
    /// anew; nothing is deleted
    #[arg(long, requires = "site")]
    pub set_aside: bool,
    /// Compare the newest good point of each site with the live data; of what is captured, base and change log with the
    /// live rows of the same moment
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

impl EntrySpec {
    /// As the shell gave it: an entry's name is bytes, and need not be text.
    pub(super) fn from_os(text: OsString) -> Result<Self, EntrySpecError> {
        Self::parse(text.as_bytes())
    }

    fn parse(text: &[u8]) -> Result<Self, EntrySpecError> {
        let site = |bytes: &[u8]| SiteId::new(String::from_utf8_lossy(bytes));
        let whole = |bytes: &[u8]| Ok(Self { site: site(bytes)?, source: None, entry: EntryPath::root() });
        if let Some(bytes) = text.strip_suffix(b":") {
            return whole(bytes);
        }
        let colons = (1..text.len()).filter(|at| text[*at] == b':');
        let split =
            colons.map(|at| text.split_at(at)).find_map(|(before, part)| Some((before, split_part(&part[1..])?)));
        let Some((before, (part, entry))) = split else { return whole(text) };
        Ok(Self { site: site(before)?, source: Some(part), entry: EntryPath::new(entry)? })
    }
}

/// `PART` or `PART/ENTRY`, if it begins with what can be a part; a slash at the end is forgiven.
pub(super) fn split_part(text: &[u8]) -> Option<(SourceName, &[u8])> {
    let mut halves = text.splitn(2, |byte| *byte == b'/');
    let part = SourceName::new(std::str::from_utf8(halves.next()?).ok()?).ok()?;
    let entry = halves.next().unwrap_or_default();
    Some((part, entry.strip_suffix(b"/").unwrap_or(entry)))
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
            let got = EntrySpec::from_os(text.into()).ok();
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
        let odd = EntrySpec::parse(b"acme:files/caf\xe9.txt").unwrap();
        assert_eq!(odd.entry.as_bytes(), b"caf\xe9.txt");
    }
}
