//! Values with a form of their own: durations, sizes, shares, addresses and templates.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use lifeboat_source::PathTemplate;

use super::ConfigError;
use super::reader::Field;

/// The place of the site id in a path.
pub(super) const SITE: &str = "{site}";

/// A whole number and a unit: `90s`, `15m`, `24h`, `14d`, `8w`. Never zero.
pub(super) fn duration(field: &Field<'_, '_>, example: &str) -> Result<Duration, ConfigError> {
    let wanted = "a duration (a whole number from 1 on and s, m, h, d or w)";
    let example = format!("\"{example}\"");
    let text = field.text(wanted, &example)?;
    parse_duration(text).filter(|duration| !duration.is_zero()).ok_or_else(|| field.mistyped(wanted, &example))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// A whole number and a unit: `64KiB`, `8MiB`, `16GiB`, `1TiB`. At least a KiB.
pub(super) fn size(field: &Field<'_, '_>, example: &str) -> Result<u64, ConfigError> {
    let wanted = "a size (a whole number and KiB, MiB, GiB or TiB)";
    let example = format!("\"{example}\"");
    let text = field.text(wanted, &example)?;
    parse_size(text).filter(|bytes| *bytes > 0).ok_or_else(|| field.mistyped(wanted, &example))
}

/// The same, or `0`.
pub(super) fn size_or_none(field: &Field<'_, '_>, example: &str) -> Result<u64, ConfigError> {
    let wanted = "a size (a whole number and KiB, MiB, GiB or TiB), or \"0\"";
    let example = format!("\"{example}\"");
    match field.text(wanted, &example)? {
        "0" => Ok(0),
        text => parse_size(text).ok_or_else(|| field.mistyped(wanted, &example)),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (digits, shift) = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A whole number from 1 to `most`.
pub(super) fn count(field: &Field<'_, '_>, most: u32, example: &str) -> Result<u32, ConfigError> {
    match field.count(example)? {
        count if (1..=most).contains(&count) => Ok(count),
        count => Err(field.error(
            format!("so many are not possible: key=`{}`, count=`{count}`", field.key),
            format!("from 1 to {most}, for example `{} = {example}`", field.key.rsplit('.').next().unwrap_or_default()),
        )),
    }
}

/// A share in percent, `"30%"`, from 1 to 100.
pub(super) fn percent(field: &Field<'_, '_>, example: &str) -> Result<u8, ConfigError> {
    let wanted = "a share (a whole number from 1 to 100 and %)";
    let example = format!("\"{example}\"");
    let text = field.text(wanted, &example)?;
    let share = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
    share.filter(|share| (1..=100).contains(share)).ok_or_else(|| field.mistyped(wanted, &example))
}

/// A path, absolute or relative to `directory`.
pub(super) fn path(field: &Field<'_, '_>, directory: &Path, example: &str) -> Result<PathBuf, ConfigError> {
    let text = field.text("a path", example)?;
    if text.is_empty() {
        return Err(field.mistyped("a path", example));
    }
    Ok(tidy(&directory.join(text)))
}

/// A path with `{site}` in it, without `..` and without any other `{…}`.
pub(super) fn template(field: &Field<'_, '_>, directory: &Path, example: &str) -> Result<String, ConfigError> {
    let text = field.text("a path with {site} in it", example)?;
    let name = &field.key;
    if !text.contains(SITE) {
        return Err(field.error(
            format!("the path does not say where the site id goes: key=`{name}`"),
            format!("put {SITE} in it, for example `path = {example}`"),
        ));
    }
    if text.replace(SITE, "").contains(['{', '}']) {
        return Err(field.error(
            format!("the path has braces that are not {SITE}: key=`{name}`"),
            format!("only {SITE} is filled in, for example `path = {example}`"),
        ));
    }
    if Path::new(text).components().any(|component| component == Component::ParentDir) {
        return Err(
            field.error(format!("the path climbs with `..`: key=`{name}`"), "write the path without `..`".to_owned())
        );
    }
    let path = tidy(&directory.join(text));
    let Ok(text) = path.into_os_string().into_string() else {
        return Err(field.error(
            format!("the path is not UTF-8 together with the configuration's directory: key=`{name}`"),
            "write an absolute path",
        ));
    };
    // What only the source knows to be wrong (names it keeps for itself) is told here, with its line.
    match PathTemplate::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(field.error(format!("{error}, key=`{name}`"), format!("for example `path = {example}`"))),
    }
}

/// The path without `.` components and trailing slashes.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_binary_unit() {
        let check = |text: &str, want: Option<u64>| assert_eq!(parse_size(text), want, "{text}");
        check("64KiB", Some(65_536));
        check("8MiB", Some(8 << 20));
        check("16GiB", Some(16 << 30));
        for bad in ["", "8", "8MB", "8 MiB", "MiB", "1.5GiB", "-1GiB", "99999999999TiB"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(parse_duration(text), want.map(Duration::from_secs), "{text}");
        };
        check("90s", Some(90));
        check("15m", Some(900));
        check("24h", Some(86_400));
        check("14d", Some(1_209_600));
        check("8w", Some(4_838_400));
        for bad in ["", "h", "24", "24 h", "1.5h", "-1h", "1y", "99999999999999999999w", "9999999999999999999w"] {
            check(bad, None);
        }
    }
}
