//! "Did you mean": the nearest names to one that does not exist.

use lifeboat_model::SiteId;

use crate::CliError;

/// The names most like `wanted`, best first, at most three.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let folded = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (likeness(&folded, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// From 0 to 1. Common beginnings count (Jaro-Winkler); so does a slip or two in any place, which
/// that measure makes too much of in short words.
fn likeness(a: &str, b: &str) -> f64 {
    let slips = strsim::osa_distance(a, b);
    let slips_max = if a.len().min(b.len()) < 6 { 1 } else { 2 };
    let by_slips = if slips <= slips_max { 0.95 - 0.05 * slips as f64 } else { 0.0 };
    strsim::jaro_winkler(a, b).max(by_slips)
}

/// "`a`, `b` or `c`"; nothing for no names.
pub fn either(names: &[&str]) -> Option<String> {
    let (last, rest) = names.split_last()?;
    if rest.is_empty() {
        return Some(format!("`{last}`"));
    }
    let rest: Vec<String> = rest.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("{} or `{last}`", rest.join(", ")))
}

/// The refusal of a site that neither a source nor the repository knows.
pub fn unknown_site<'a>(site: &SiteId, known: impl IntoIterator<Item = &'a SiteId>) -> CliError {
    let nearest = nearest(site.as_str(), known.into_iter().map(SiteId::as_str));
    let error = CliError::usage(format!("no such site: site=`{site}`"));
    match either(&nearest) {
        Some(names) => error.with_hint(format!("did you mean {names}? see `lifeboat sites`")),
        None => error.with_hint("see `lifeboat sites` for every site that a source lists or the repository holds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_are_not() {
        let known = ["acme", "acme-eu", "globex", "initech"];
        assert_eq!(nearest("amce", known), ["acme"]);
        assert_eq!(nearest("ACME", known), ["acme", "acme-eu"]);
        assert_eq!(nearest("zzz", known), Vec::<&str>::new());
        assert_eq!(nearest("ulr", ["url", "key"]), ["url"]);
        assert_eq!(nearest("kepe", ["url", "keep"]), ["keep"]);
        assert_eq!(either(&["a", "b", "c"]).as_deref(), Some("`a`, `b` or `c`"));
        assert_eq!(either(&[]), None);
    }
}
