//! What of a site's own schema is no table and became another since a base: enumerations get their values, the rest is
//! told to a person.
//!
//! An enumeration's values are written into the statement that makes it: a value that is added in the same transaction
//! cannot be used in it. Pure.
//!
//! What is not here: tables and their columns (`structure`).

use std::collections::BTreeMap;

use lifeboat_source::postgres::capture::OtherObject;
use lifeboat_source::postgres::describe::literal;

/// Objects that are named.
const NAMED_MAX: usize = 12;

/// What is noted of objects from a base to a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OtherObjects {
    /// Of each enumeration: all of its values.
    values: BTreeMap<String, Vec<String>>,
    /// In the order in which they were first noted; whether it was dropped last.
    others: Vec<(String, bool)>,
}

impl OtherObjects {
    pub fn take(&mut self, object: OtherObject) {
        let OtherObject { kind, name, values, is_dropped } = object;
        if let Some(values) = values {
            self.values.insert(name, values);
            return;
        }
        if is_dropped && self.values.remove(&name).is_some() {
            return;
        }
        let shown = format!("{kind} {name}");
        match self.others.iter_mut().find(|(known, _)| *known == shown) {
            Some((_, was_dropped)) => *was_dropped = is_dropped,
            None => self.others.push((shown, is_dropped)),
        }
    }

    /// What is made again as the base has it, in words; `None`: there is nothing of the kind.
    pub fn told(&self) -> Option<String> {
        let more = self.others.len().saturating_sub(NAMED_MAX);
        let one = |(name, is_dropped): &(String, bool)| {
            let dropped = if *is_dropped { " (dropped)" } else { "" };
            format!("{name}{dropped}")
        };
        let named: Vec<String> = self.others.iter().take(NAMED_MAX).map(one).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!named.is_empty()).then(|| format!("{}{more}", named.join(", ")))
    }

    /// The statements of a base with the values of the moment, and before all else the enumerations that came since;
    /// `None`: they are these already.
    pub fn with_values(&self, structure: &str) -> Option<String> {
        let mut whole = structure.to_owned();
        let mut new = String::new();
        for (name, values) in &self.values {
            let values: Vec<String> = values.iter().map(|value| format!("    {}", literal(value))).collect();
            let made = format!("CREATE TYPE {name} AS ENUM (\n{}\n);", values.join(",\n"));
            match statement(&whole, &format!("CREATE TYPE {name} AS ENUM (")) {
                Some((from, till)) => whole.replace_range(from..till, &made),
                None => new.push_str(&format!("\n{made}\n")),
            }
        }
        whole.push_str(&new);
        (whole != structure).then_some(whole)
    }
}

/// Where a statement that begins with these words, at the beginning of a line, is: to behind its semicolon.
fn statement(text: &str, words: &str) -> Option<(usize, usize)> {
    let from = text.match_indices(words).map(|(at, _)| at).find(|at| *at == 0 || text[..*at].ends_with('\n'))?;
    let mut is_quoted = false;
    let end = text[from + words.len()..].char_indices().find(|(_, character)| {
        is_quoted ^= *character == '\'';
        *character == ';' && !is_quoted
    })?;
    Some((from, from + words.len() + end.0 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, values: Option<&[&str]>) -> OtherObject {
        let values = values.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
        OtherObject { kind: kind.into(), name: name.into(), values, is_dropped: false }
    }

    #[test]
    fn an_enumeration_is_made_with_the_values_it_had_at_the_moment() {
        let base = "CREATE SCHEMA s;\nCREATE TYPE s.mood AS ENUM (\n    'o;k',\n    'it''s'\n);\nALTER TYPE s.mood OWNER TO x;\n";
        let mut noted = OtherObjects::default();
        assert_eq!(noted.with_values(base), None);
        noted.take(object("type", "s.mood", Some(&["new", "o;k", "it's"])));
        noted.take(object("type", "s.other", Some(&["a"])));
        let want = "CREATE SCHEMA s;\nCREATE TYPE s.mood AS ENUM (\n    'new',\n    'o;k',\n    'it''s'\n);\nALTER TYPE s.mood OWNER TO x;\n\
            \nCREATE TYPE s.other AS ENUM (\n    'a'\n);\n";
        assert_eq!(noted.with_values(base).as_deref(), Some(want));
        assert_eq!(noted.with_values(want), None);
        assert_eq!(noted.told(), None);
    }

    #[test]
    fn what_is_not_made_again_is_named_once() {
        let mut noted = OtherObjects::default();
        for object in [object("index", "s.i", None), object("view", "s.v", None), object("index", "s.i", None)] {
            noted.take(object);
        }
        noted.take(OtherObject { is_dropped: true, ..object("view", "s.v", None) });
        assert_eq!(noted.told().as_deref(), Some("index s.i, view s.v (dropped)"));
    }
}
