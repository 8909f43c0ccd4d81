//! Paths that lie in one another: found out before anything is read.
//!
//! Paths are compared as they are written, component by component, `{site}` being equal to itself
//! only: what a link or another mount brings together is not seen here.
//!
//! Rules: a database inside a files source is left out of the files part (a raw copy of a live
//! database is no backup); two sources never own the same path (a restore of one would remove the
//! other's files as extra), nor does one site's path in a source ever lie in another site's path in
//! another source; neither the repository nor the catalog may look like a site.

use std::path::Path;

use super::ConfigError;
use super::reader::Document;
use super::repository::RepositoryConfig;
use super::sources::{InnerDatabase, SourceConfig, SourceSettings};
use super::values::SITE;

pub(super) fn resolve(
    document: &Document<'_>,
    repository: &RepositoryConfig,
    sources: &mut [SourceConfig],
) -> Result<(), ConfigError> {
    for outer in 0..sources.len() {
        for inner in 0..sources.len() {
            if outer == inner {
                continue;
            }
            // What is no path lies in none.
            let (Some(above), Some(below)) = (sources[outer].path(), sources[inner].path()) else { continue };
            let Some(rest) = relative(above, below) else {
                refuse_crossing(document, &sources[outer], &sources[inner])?;
                continue;
            };
            match (&sources[outer].settings, &sources[inner].settings) {
                (SourceSettings::Files(_), SourceSettings::Sqlite(_)) if !rest.is_empty() => {
                    let source = sources[inner].name.clone();
                    if let SourceSettings::Files(files) = &mut sources[outer].settings {
                        files.databases.push(InnerDatabase { source, path: rest });
                    }
                }
                (SourceSettings::Files(files), SourceSettings::Files(_)) if is_excluded(&rest, &files.exclude) => {}
                _ => return Err(shared_path(document, &sources[outer], &sources[inner], &rest)),
            }
        }
    }
    for source in sources.iter() {
        let ours = [("repository", repository.directory.as_deref()), ("catalog", Some(repository.catalog.as_path()))];
        for (what, path) in ours {
            if source.path().zip(path).is_some_and(|(template, path)| covers(template, path)) {
                return Err(document.error(
                    source.offset,
                    format!("the {what} lies inside a site of a source: source=`{}`", source.name),
                    format!("move the {what}, or give the source a path that does not match it"),
                ));
            }
        }
    }
    Ok(())
}

/// Refuses two sources between which a site of one can hold, or be, another site of the other.
fn refuse_crossing(document: &Document<'_>, outer: &SourceConfig, inner: &SourceConfig) -> Result<(), ConfigError> {
    let (Some(above), Some(below)) = (outer.path(), inner.path()) else { return Ok(()) };
    let is_as_deep = Path::new(above).components().count() == Path::new(below).components().count();
    let can_hold = match (&outer.settings, &inner.settings) {
        (SourceSettings::Files(_), SourceSettings::Files(_)) => true,
        (SourceSettings::Files(_), SourceSettings::Sqlite(_)) => !is_as_deep, // a directory is no database
        (SourceSettings::Sqlite(_), SourceSettings::Sqlite(_)) => is_as_deep,
        _ => false,
    };
    if !can_hold || !crosses(above, below) {
        return Ok(());
    }
    Err(document.error(
        outer.offset.max(inner.offset),
        format!("one site's path can lie in another site's: source=`{}`, inside=`{}`", inner.name, outer.name),
        "give each source a directory of its own: a restore of one site would write into the other",
    ))
}

/// Whether the path of some site in `outer` is, or holds, that of another site in `inner`.
fn crosses(outer: &str, inner: &str) -> bool {
    let mut crossed = false;
    let mut deeper = Path::new(inner).components();
    for wanted in Path::new(outer).components() {
        let Some(found) = deeper.next() else { return false };
        let (wanted, found) = (wanted.as_os_str().to_string_lossy(), found.as_os_str().to_string_lossy());
        if wanted == found {
            if wanted.contains(SITE) {
                return false; // then both are one site
            }
        } else if can_be_equal(&wanted, &found) {
            crossed = true;
        } else {
            return false;
        }
    }
    crossed
}

/// Whether two components can spell one name, for ids of any two sites.
fn can_be_equal(one: &str, other: &str) -> bool {
    let ends = |text: &str| {
        let (head, rest) = text.split_once(SITE)?;
        Some((head.to_owned(), rest.rsplit(SITE).next().unwrap_or(rest).to_owned()))
    };
    match (ends(one), ends(other)) {
        (None, None) => one == other,
        (Some(_), None) => component_matches(one, other),
        (None, Some(_)) => component_matches(other, one),
        (Some((head, tail)), Some((other_head, other_tail))) => {
            (head.starts_with(&other_head) || other_head.starts_with(&head))
                && (tail.ends_with(&other_tail) || other_tail.ends_with(&tail))
        }
    }
}

/// Why nothing may be exported to `path`, if so: a source would take it for a site's, or the
/// repository or the catalog lies there.
pub(super) fn taken_by(config: &super::Config, path: &Path) -> Option<String> {
    let resolved = path.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        Some(real.join(path.strip_prefix(above).ok()?))
    });
    for path in [Some(path), resolved.as_deref()].into_iter().flatten() {
        let is_site = |source: &&super::SourceConfig| source.path().is_some_and(|template| covers(template, path));
        if let Some(source) = config.sources.iter().find(is_site) {
            return Some(format!("a site of the source `{}`", source.name));
        }
        let repository = config.repository.directory.as_deref();
        if repository.is_some_and(|repository| path.starts_with(repository)) {
            return Some("the repository".into());
        }
        if path.starts_with(&config.repository.catalog) {
            return Some("the catalog".into());
        }
    }
    None
}

/// What is left of `inner` below `outer`; empty when they are equal.
fn relative(outer: &str, inner: &str) -> Option<String> {
    Path::new(inner).strip_prefix(outer).ok()?.to_str().map(str::to_owned)
}

/// Whether the outer source leaves `rest` out.
fn is_excluded(rest: &str, exclude: &[String]) -> bool {
    !rest.is_empty() && exclude.iter().any(|path| Path::new(rest).starts_with(path))
}

fn shared_path(document: &Document<'_>, outer: &SourceConfig, inner: &SourceConfig, rest: &str) -> ConfigError {
    let later = outer.offset.max(inner.offset);
    if rest.is_empty() {
        return document.error(
            later,
            format!("two sources have the same path: source=`{}`, other=`{}`", outer.name, inner.name),
            "take one of them out: a restore of one would undo the other",
        );
    }
    document.error(
        later,
        format!("a source lies inside another: source=`{}`, inside=`{}`", inner.name, outer.name),
        format!("write `exclude = [\"{rest}\"]` in [sources.{}], or take one of them out", outer.name),
    )
}

/// Whether `path` is, or lies in, what `template` calls a site.
fn covers(template: &str, path: &Path) -> bool {
    let mut components = path.components().map(|component| component.as_os_str().to_string_lossy());
    Path::new(template).components().all(|wanted| {
        let wanted = wanted.as_os_str().to_string_lossy();
        components.next().is_some_and(|found| component_matches(&wanted, &found))
    })
}

fn component_matches(wanted: &str, found: &str) -> bool {
    match wanted.split_once(SITE) {
        None => wanted == found,
        // A second `{site}` in one component is rare; matching its ends errs on the safe side.
        Some((head, tail)) => {
            let tail = tail.rsplit(SITE).next().unwrap_or(tail);
            found.len() > head.len() + tail.len() && found.starts_with(head) && found.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_of_one_source_never_lies_in_another_site_of_another() {
        let check = |outer: &str, inner: &str, want: bool| assert_eq!(crosses(outer, inner), want, "{outer} {inner}");
        check("/srv/{site}", "/srv/shared/{site}", true);
        check("/srv/{site}", "/srv/{site}.d", true);
        check("/srv/{site}.d", "/srv/{site}", true);
        check("/srv/{site}", "/srv/{site}-db/notes.db", true);
        check("/srv/{site}/files", "/srv/all/files/{site}", true);
        check("/srv/{site}.db", "/srv/{site}-cache.db", true);
        check("/srv/{site}", "/srv/{site}/notes.db", false);
        check("/srv/{site}/files", "/srv/{site}/notes.db", false);
        check("/srv/{site}/files", "/srv/shared/{site}", true); // the site `files`
        check("/srv/a-{site}", "/srv/b-{site}", false);
        check("/srv/{site}.a", "/srv/{site}.b", false);
        check("/srv/{site}", "/var/{site}", false);
        check("/srv/a/{site}", "/srv/{site}", false);
    }

    #[test]
    fn a_template_covers_what_it_would_take_for_a_site() {
        let check = |template: &str, path: &str, want: bool| {
            assert_eq!(covers(template, Path::new(path)), want, "{template} {path}");
        };
        check("/srv/{site}", "/srv/backup", true);
        check("/srv/{site}", "/srv/backup/lifeboat", true);
        check("/srv/{site}", "/srv", false);
        check("/srv/{site}", "/var/backup", false);
        check("/srv/{site}/files", "/srv/backup", false);
        check("/srv/s-{site}.d", "/srv/s-x.d", true);
        check("/srv/s-{site}.d", "/srv/s-.d", false);
        check("/srv/s-{site}.d", "/srv/lifeboat", false);
    }
}
