//! What a name beside the sites is: a site, a customer who cannot be one, or something that lies about.
//!
//!   what the name says ─┐
//!                       ├─▶ site │ nothing │ noise (`sources inspect` lists it) │ missed (every run over all sites tells it)
//!   what the way leads to ┘
//!
//! In a directory anything may lie about: a stray file, `lost+found`, a directory of something else. But where
//! the template's whole way leads to what it expects, as through a link, somebody keeps a customer's data, and
//! nobody may believe that they are backed up. What cannot be looked at is never taken for nothing.
//!
//! What is not here: looking.

use lifeboat_model::SiteId;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::Expected;

const LINK: &str = "a symbolic link stands on the way to it";

/// What lies at the end of the template's way for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// What the template expects, over real directories.
    Expected,
    Other,
    Absent,
    /// A link stands on the way; does it lead to what is expected?
    Link {
        leads_there: bool,
    },
    /// It cannot be looked at.
    Unknown(String),
}

impl End {
    /// `plain`: what lies there, no link followed. `followed` is asked where a link stands in the way.
    pub fn of(
        plain: Result<FileType, Errno>,
        followed: impl FnOnce() -> Result<FileType, Errno>,
        expected: Expected,
    ) -> Self {
        let is_expected = |found: FileType| match expected {
            Expected::Directory => found == FileType::Directory,
            Expected::File => found == FileType::RegularFile,
        };
        match plain {
            Ok(FileType::Symlink) | Err(Errno::LOOP) => {
                let leads_there = match followed() {
                    Ok(found) => is_expected(found),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => false,
                    Err(_) => true,
                };
                End::Link { leads_there }
            }
            Ok(found) if is_expected(found) => End::Expected,
            Ok(_) => End::Other,
            Err(Errno::NOENT | Errno::NOTDIR) => End::Absent,
            Err(errno) => End::Unknown(std::io::Error::from(errno).to_string()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Site(SiteId),
    Nothing,
    Noise(String),
    /// A customer of whom nothing is backed up; the site, where the name can be one's.
    Missed {
        site: Option<SiteId>,
        reason: String,
        remedy: &'static str,
    },
}

/// `name`: the site that it names, or why it can name none.
pub(super) fn judge(name: Result<SiteId, String>, end: End, expected: Expected) -> Verdict {
    let missed = |site, reason: String, remedy| Verdict::Missed { site, reason, remedy };
    match (name, end) {
        (Ok(site), End::Expected) => Verdict::Site(site),
        (Ok(_), End::Absent) => Verdict::Nothing,
        (Ok(_), End::Link { leads_there: false }) => Verdict::Noise(LINK.into()),
        (Ok(_), End::Other) if expected == Expected::Directory => Verdict::Noise("not a directory".into()),
        (Ok(_), End::Other) => Verdict::Noise("not a regular file".into()),
        (Ok(site), End::Link { leads_there: true }) => {
            let remedy = "put what the link leads to in its place (a bind mount does), or move the link elsewhere";
            missed(Some(site), LINK.into(), remedy)
        }
        (Ok(site), End::Unknown(reason)) => {
            missed(Some(site), reason, "run as a user who may look there, or mend what stands in the way")
        }
        (Err(reason), End::Expected | End::Link { leads_there: true } | End::Unknown(_)) => {
            missed(None, reason, "give it another name")
        }
        (Err(reason), _) => Verdict::Noise(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_never_left_out_as_noise_and_noise_is_no_alarm() {
        let good = || Ok(SiteId::new("acme").unwrap());
        let bad = || Err("the name is not UTF-8".to_owned());
        let check = |name: Result<SiteId, String>, end: End, expected: Expected, want: &str| {
            let context = format!("{name:?} {end:?} {expected:?}");
            let got = match judge(name, end, expected) {
                Verdict::Site(site) => format!("site {site}"),
                Verdict::Nothing => "nothing".into(),
                Verdict::Noise(reason) => format!("noise: {reason}"),
                Verdict::Missed { site, reason, .. } => format!("missed {}: {reason}", site.is_some()),
            };
            assert_eq!(got, want, "{context}");
        };
        let unknown = || End::Unknown("Permission denied".into());
        use Expected::{Directory, File};
        check(good(), End::Expected, Directory, "site acme");
        check(good(), End::Absent, Directory, "nothing");
        check(good(), End::Other, Directory, "noise: not a directory");
        check(good(), End::Other, File, "noise: not a regular file");
        check(good(), End::Link { leads_there: true }, Directory, &format!("missed true: {LINK}"));
        check(good(), End::Link { leads_there: false }, Directory, &format!("noise: {LINK}"));
        check(good(), unknown(), File, "missed true: Permission denied");
        check(bad(), End::Expected, Directory, "missed false: the name is not UTF-8");
        check(bad(), End::Link { leads_there: true }, File, "missed false: the name is not UTF-8");
        check(bad(), unknown(), File, "missed false: the name is not UTF-8");
        check(bad(), End::Absent, Directory, "noise: the name is not UTF-8");
        check(bad(), End::Other, Directory, "noise: the name is not UTF-8");
        check(bad(), End::Link { leads_there: false }, Directory, "noise: the name is not UTF-8");
    }

    #[test]
    fn what_cannot_be_looked_at_is_never_taken_for_nothing() {
        type Found = Result<FileType, Errno>;
        let check = |plain: Found, followed: Found, want: End| {
            assert_eq!(End::of(plain, || followed, Expected::Directory), want, "{plain:?} {followed:?}");
        };
        let (directory, link): (Found, Found) = (Ok(FileType::Directory), Ok(FileType::Symlink));
        let through = |leads_there| End::Link { leads_there };
        check(directory, directory, End::Expected);
        check(Ok(FileType::RegularFile), directory, End::Other);
        check(Err(Errno::NOENT), directory, End::Absent);
        check(Err(Errno::NOTDIR), directory, End::Absent);
        check(link, directory, through(true));
        check(Err(Errno::LOOP), directory, through(true));
        check(link, Ok(FileType::RegularFile), through(false));
        check(link, Err(Errno::NOENT), through(false));
        check(link, Err(Errno::LOOP), through(false));
        check(link, Err(Errno::ACCESS), through(true));
        assert!(matches!(End::of(Err(Errno::ACCESS), || directory, Expected::Directory), End::Unknown(_)));
        assert_eq!(End::of(Ok(FileType::RegularFile), || directory, Expected::File), End::Expected);
    }
}
