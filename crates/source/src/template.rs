//! Path templates: `/srv/sites/{site}/attachments`, with `{site}` once or more.
//!
//! A template says both where a known site's part lies and which sites there are. Discovery lists
//! real directories only and follows no symbolic link, so that one site never shows up as another.
//!
//! What is not here: reading parts.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_model::{EntryPath, PartProblem, SiteId, SourceName};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath::{self, Mounts, Names};
use crate::error::shown;
use crate::identity::identity_of;
use crate::{Discovery, Error, MissedSite, Place};
use verdict::{End, Verdict, judge};

mod verdict;

const SITE: &str = "{site}";
const OURS: &[u8] = b".lifeboat-";
const LOST_AND_FOUND: &str = "lost+found";

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    /// The fixed part: every segment before the first that holds `{site}`.
    root: PathBuf,
    /// The other segments; each is cut at its `{site}`s (one piece: a fixed segment).
    segments: Vec<Vec<String>>,
}

/// What must stand at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Directory,
    File,
}

/// Why a text is not a template; the message says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    #[error("the path must be absolute: path=`{0}`")]
    NotAbsolute(String),
    #[error("the path must hold {{site}}, else every site would have the same files: path=`{0}`")]
    NoSite(String),
    #[error("only {{site}} may stand in braces: path=`{0}`")]
    UnknownPlaceholder(String),
    #[error("the path must not hold `{segment}` as a segment: path=`{path}`")]
    BadSegment { path: String, segment: String },
}

impl PathTemplate {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let own = || text.escape_debug().to_string();
        let Some(relative) = text.strip_prefix('/') else {
            return Err(TemplateError::NotAbsolute(own()));
        };
        if text.replace(SITE, "").contains(['{', '}']) {
            return Err(TemplateError::UnknownPlaceholder(own()));
        }
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        let mut root = PathBuf::from("/");
        let mut segments: Vec<Vec<String>> = Vec::new();
        for segment in relative.split('/') {
            let bad = matches!(segment, "" | "." | "..") || segment.contains('\0') || segment.starts_with(".lifeboat-");
            if bad && !relative.is_empty() {
                return Err(TemplateError::BadSegment { path: own(), segment: segment.escape_debug().to_string() });
            }
            let pieces: Vec<String> = segment.split(SITE).map(str::to_owned).collect();
            if segments.is_empty() && pieces.len() == 1 {
                root.push(segment);
            } else {
                segments.push(pieces);
            }
        }
        if segments.is_empty() {
            return Err(TemplateError::NoSite(own()));
        }
        Ok(Self { text: text.to_owned(), root, segments })
    }

    /// The fixed part before the first segment with `{site}`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The site's path; an id that cannot stand in it is refused.
    pub fn path_for(&self, site: &SiteId) -> Result<PathBuf, Error> {
        self.place(site).map(|place| place.path())
    }

    /// The site's path, with the part that must not be trusted kept apart.
    pub fn place(&self, site: &SiteId) -> Result<Place, Error> {
        let unsafe_id =
            || Error::UnsafeSiteId { site: site.as_str().escape_debug().to_string(), template: self.text.clone() };
        if !site.is_path_segment() {
            return Err(unsafe_id());
        }
        let mut relative = EntryPath::root();
        for pieces in &self.segments {
            let segment = pieces.join(site.as_str());
            if segment.as_bytes().starts_with(OURS) {
                return Err(unsafe_id());
            }
            relative = relative.join(segment.as_bytes()).map_err(|_| unsafe_id())?;
        }
        Ok(Place::new(self.root.clone(), relative))
    }

    /// Every site whose path exists and is of the expected kind. A root that is missing or cannot
    /// be listed is [`Error::SourceFailed`]: its emptiness would be a lie.
    pub fn discover(&self, source: &SourceName, expected: Expected) -> Result<Discovery, Error> {
        let root_bytes = self.root.as_os_str().as_bytes();
        let failed = |errno: Errno| self.failed(source, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root_bytes, flags, Mode::empty()).map_err(failed)?;
        let names = Names::read(&root).map_err(failed)?;
        let identity = identity_of(&self.root)?;
        let mut discovery = Discovery { sites: Vec::new(), left_out: Vec::new(), missed: Vec::new(), root: identity };
        for (name, _) in names.iter() {
            let Some(id) = matched(&self.segments[0], name) else { continue };
            if name.starts_with(OURS) {
                continue;
            }
            let entry = || shown(self.root.join(OsStr::from_bytes(name)).as_os_str().as_bytes());
            match judge(self.site_of(id), self.end_of(&root, id, expected), expected) {
                Verdict::Site(site) => discovery.sites.push(site),
                Verdict::Nothing => {}
                Verdict::Noise(reason) => discovery.left_out.push(PartProblem { entry: entry(), reason }),
                Verdict::Missed { site, reason, remedy } => {
                    let problem = PartProblem { entry: entry(), reason };
                    discovery.missed.push(MissedSite { site, problem, remedy: remedy.to_owned() });
                }
            }
        }
        discovery.sites.sort();
        discovery.sites.dedup();
        Ok(discovery)
    }

    /// The site that a name can stand for; `Err` says why it can stand for none.
    fn site_of(&self, id: &[u8]) -> Result<SiteId, String> {
        let text = std::str::from_utf8(id).map_err(|_| "the name is not UTF-8".to_owned())?;
        let site = SiteId::new(text).map_err(|error| error.to_string())?;
        if text == LOST_AND_FOUND {
            return Err("made by the file system".into());
        }
        self.place(&site).map_err(|_| "the name is no safe site id".to_owned())?;
        Ok(site)
    }

    /// What lies where the part of `id` would be, whether or not it can be a site's id.
    fn end_of(&self, root: &rustix::fd::OwnedFd, id: &[u8], expected: Expected) -> End {
        // Neither is a name: the first is the file system's own, and nothing climbs.
        if id == LOST_AND_FOUND.as_bytes() || matches!(id, b"." | b"..") {
            return End::Absent;
        }
        let segment = |pieces: &Vec<String>| pieces.iter().map(String::as_bytes).collect::<Vec<_>>().join(id);
        let way = self.segments.iter().map(segment).collect::<Vec<_>>().join(&b'/');
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let plain = beneath::open(root, &way, flags, Mounts::Cross).and_then(beneath::stat_fd);
        let followed = || {
            let stat = rustix::fs::statat(root, way.as_slice(), AtFlags::empty())?;
            Ok(FileType::from_raw_mode(stat.st_mode))
        };
        End::of(plain.map(|stat| beneath::file_type(&stat)), followed, expected)
    }

    /// Turns the failure to open or list the root into words.
    pub(crate) fn failed(&self, source: &SourceName, errno: Errno) -> Error {
        let root = shown(self.root.as_os_str().as_bytes());
        let io = std::io::Error::from(errno);
        let hint = match errno {
            Errno::NOENT => format!("mount or create `{root}`, or correct `path` in [sources.{source}]"),
            Errno::NOTDIR => format!("`{root}` is not a directory: correct `path` in [sources.{source}]"),
            Errno::ACCESS | Errno::PERM => format!("run as a user who may list `{root}`"),
            _ => format!("look at the disk or mount below `{root}`; `dmesg` may say more"),
        };
        Error::SourceFailed { source_name: source.to_string(), detail: format!("root=`{root}`: {io}"), hint }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The id that a name spells in a segment, if it does. Every `{site}` of a segment has the same
/// length, so the name's length decides where each lies.
fn matched<'a>(pieces: &[String], name: &'a [u8]) -> Option<&'a [u8]> {
    let count = pieces.len() - 1;
    let fixed: usize = pieces.iter().map(String::len).sum();
    let len = name.len().checked_sub(fixed)?;
    if count == 0 || len == 0 || len % count != 0 {
        return None;
    }
    let len = len / count;
    let start = pieces[0].len();
    let id = name.get(start..start + len)?;
    let mut spelled = Vec::with_capacity(name.len());
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            spelled.extend_from_slice(id);
        }
        spelled.extend_from_slice(piece.as_bytes());
    }
    (spelled == name).then_some(id)
}

#[cfg(test)]
mod tests;
