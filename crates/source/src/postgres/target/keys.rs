//! `KEY` and `FROM..TILL`: some rows of a table, by its primary key. Pure.
//!
//! ```text
//! 42              one row                 1..99          both ends are in it
//! acme,7          of two columns          ..99  1..      without a beginning, without an end
//! "a,b","say ""hi"""   quoted as in CSV, for a value with a comma, a quote or two dots
//! ```

use super::super::Column;
use super::super::describe::literal;
use crate::Error;

/// Some rows of a table, by their primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    from: Option<Vec<String>>,
    till: Option<Vec<String>>,
    is_one: bool,
}

impl KeyRange {
    /// From what a person writes between the brackets.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (mut ends, mut end, mut value) = (Vec::new(), Vec::new(), String::new());
        let (mut is_quoted, mut was_quoted) = (false, false);
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let after = rest.get(next.len_utf8()..).unwrap_or_default();
            rest = match next {
                '"' if is_quoted && after.starts_with('"') => {
                    value.push('"');
                    after.get(1..).unwrap_or_default()
                }
                '"' if is_quoted => {
                    is_quoted = false;
                    after
                }
                '"' if value.is_empty() && !was_quoted => {
                    (is_quoted, was_quoted) = (true, true);
                    after
                }
                ',' if !is_quoted => {
                    end.push(std::mem::take(&mut value));
                    was_quoted = false;
                    after
                }
                '.' if !is_quoted && after.starts_with('.') => {
                    if !(end.is_empty() && value.is_empty() && !was_quoted) {
                        end.push(std::mem::take(&mut value));
                    }
                    ends.push(std::mem::take(&mut end));
                    was_quoted = false;
                    after.get(1..).unwrap_or_default()
                }
                '"' => return Err(bad(text, "a quote within a value must be doubled, and the value quoted")),
                _ if was_quoted && !is_quoted => return Err(bad(text, "something follows a closing quote")),
                other => {
                    value.push(other);
                    after
                }
            };
        }
        if is_quoted {
            return Err(bad(text, "a quote is not closed"));
        }
        if !(end.is_empty() && value.is_empty() && !was_quoted) {
            end.push(value);
        }
        ends.push(end);
        let given = |end: &Vec<String>| (!end.is_empty()).then(|| end.clone());
        let (from, till, is_one) = match ends.as_slice() {
            [one] => (given(one), given(one), true),
            [from, till] => (given(from), given(till), false),
            _ => return Err(bad(text, "two dots stand in it more than once")),
        };
        if from.is_none() && till.is_none() {
            return Err(bad(text, "no key is given"));
        }
        Ok(Self { from, till, is_one })
    }

    /// A single key, as [`Self::parse`] reads it.
    pub(super) fn show(values: &[String]) -> String {
        let one = |value: &String| match value.is_empty() || value.contains(['"', ',', '.']) {
            true => format!("\"{}\"", value.replace('"', "\"\"")),
            false => value.clone(),
        };
        values.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// Whether it is a single key.
    pub fn is_one(&self) -> bool {
        self.is_one
    }

    /// Refuses keys of another number of values than the primary key has columns.
    pub(super) fn check(&self, table: &str, key: &[Column]) -> Result<(), Error> {
        let columns: Vec<&str> = key.iter().map(|column| column.name.as_str()).collect();
        if columns.is_empty() {
            return Err(Error::BadKey {
                detail: format!("the table has no primary key, so no rows of it can be named: table=`{table}`"),
                hint: "leave the brackets out: the whole table".into(),
            });
        }
        match [&self.from, &self.till].into_iter().flatten().find(|end| end.len() != columns.len()) {
            None => Ok(()),
            Some(end) => Err(Error::BadKey {
                detail: format!(
                    "the primary key has other columns: table=`{table}`, columns=`{}`, values given=`{}`",
                    columns.join(", "),
                    end.len()
                ),
                hint: "give one value a column, with commas between; quote a value that holds a comma as in CSV".into(),
            }),
        }
    }

    /// A query that finds a row unless the range ends before it begins: its first key, as a row of the table's
    /// types, must not lie behind its last. `None`: it has not both ends.
    pub(super) fn is_forward(&self, from_item: &str, key: &[Column]) -> Option<String> {
        let (false, Some(from), Some(till)) = (self.is_one, &self.from, &self.till) else { return None };
        let columns: Vec<String> = key.iter().map(|column| format!("t.{}", column.quoted)).collect();
        let values: Vec<String> = from.iter().map(|value| literal(value)).collect();
        Some(format!(
            "SELECT FROM (SELECT {} FROM {from_item} t WHERE false UNION ALL SELECT {}) t WHERE {}",
            columns.join(", "),
            values.join(", "),
            ordered("t", key, till, "<")
        ))
    }

    /// Whether a row is in the range, as SQL. Text is ordered by its bytes, like a snapshot's rows.
    pub(super) fn condition(&self, alias: &str, key: &[Column]) -> String {
        if let (true, Some(values)) = (self.is_one, &self.from) {
            let one = |(column, value): (&Column, &String)| compared(alias, column, "=", value);
            return key.iter().zip(values).map(one).collect::<Vec<_>>().join(" AND ");
        }
        let from = self.from.as_ref().map(|values| ordered(alias, key, values, ">"));
        let till = self.till.as_ref().map(|values| ordered(alias, key, values, "<"));
        from.into_iter().chain(till).collect::<Vec<_>>().join(" AND ")
    }
}

/// `a > x OR (a = x AND (b >= y))`, column by column: rows are only compared whole by operators that
/// every type has.
fn ordered(alias: &str, key: &[Column], values: &[String], direction: &str) -> String {
    let pairs: Vec<(&Column, &String)> = key.iter().zip(values).collect();
    let mut condition = String::new();
    for (at, (column, value)) in pairs.iter().enumerate().rev() {
        let beyond = compared(alias, column, direction, value);
        let same = compared(alias, column, "=", value);
        condition = match at + 1 == pairs.len() {
            true => format!("({beyond} OR {same})"),
            false => format!("({beyond} OR ({same} AND {condition}))"),
        };
    }
    condition
}

/// The value has no type of its own: it is read as one of the column's, and never cut to its length.
fn compared(alias: &str, column: &Column, operator: &str, value: &str) -> String {
    let collate = if column.is_collatable { r#" COLLATE pg_catalog."C""# } else { "" };
    let known = match column.equals.strip_suffix("=)") {
        Some(schema) => format!("{schema}{operator})"),
        None => format!("OPERATOR(pg_catalog.{operator})"),
    };
    format!("{alias}.{}{collate} {known} {}", column.quoted, literal(value))
}

fn bad(text: &str, detail: &str) -> Error {
    Error::BadKey {
        detail: format!("cannot read the keys: {detail}: keys=`{text}`"),
        hint: "such as [42], [1..99], [acme,7] or [\"a,b\"..\"c,d\"]".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_shown_is_read_as_itself() {
        for values in [&["42"][..], &["acme", "7"], &["a,b", "say \"hi\""], &["1..9", ""], &["", ""], &["."]] {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            let shown = KeyRange::show(&values);
            let want = KeyRange { from: Some(values.clone()), till: Some(values), is_one: true };
            assert_eq!(KeyRange::parse(&shown).unwrap(), want, "{shown}");
        }
        assert_eq!(KeyRange::show(&["acme".into(), "1.5".into()]), "acme,\"1.5\"");
    }

    fn column(name: &str) -> Column {
        Column {
            number: 1,
            name: name.into(),
            quoted: name.into(),
            type_name: "bigint".into(),
            not_null: true,
            is_generated: false,
            identity: None,
            is_collatable: name == "t",
            is_large_object: false,
            equals: if name == "c" { "OPERATOR(public.=)".into() } else { "=".into() },
        }
    }

    #[test]
    fn keys_are_read_as_a_person_writes_them() {
        for (text, from, till) in [
            ("42", Some(vec!["42"]), Some(vec!["42"])),
            ("1..99", Some(vec!["1"]), Some(vec!["99"])),
            ("..99", None, Some(vec!["99"])),
            ("1..", Some(vec!["1"]), None),
            ("acme,7", Some(vec!["acme", "7"]), Some(vec!["acme", "7"])),
            (r#""a,b..c","say ""hi""""#, Some(vec!["a,b..c", "say \"hi\""]), Some(vec!["a,b..c", "say \"hi\""])),
            (r#""""#, Some(vec![""]), Some(vec![""])),
            (r#"a.b,"".."z",x"#, Some(vec!["a.b", ""]), Some(vec!["z", "x"])),
        ] {
            let strings = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect::<Vec<_>>();
            let range = KeyRange::parse(text).unwrap();
            assert_eq!((range.from, range.till), (from.map(strings), till.map(strings)), "{text}");
        }
        for text in ["", "..", "1..2..3", "\"a", "\"a\"b", "a\"b"] {
            assert!(KeyRange::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_a_condition_on_every_column_of_the_key() {
        let check = |text: &str, key: &[Column], want: &str| {
            assert_eq!(KeyRange::parse(text).unwrap().condition("t", key), want, "{text}");
        };
        check("42", &[column("id")], "t.id OPERATOR(pg_catalog.=) '42'");
        check("a'b", &[column("t")], r#"t.t COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) 'a''b'"#);
        check("x", &[column("c")], "t.c OPERATOR(public.=) 'x'");
        check(
            "1,2..",
            &[column("id"), column("c")],
            "(t.id OPERATOR(pg_catalog.>) '1' OR (t.id OPERATOR(pg_catalog.=) '1' AND \
             (t.c OPERATOR(public.>) '2' OR t.c OPERATOR(public.=) '2')))",
        );
        assert!(KeyRange::parse("1,2").unwrap().check("x", &[column("id")]).is_err());
        assert!(KeyRange::parse("1").unwrap().check("x", &[]).is_err());
    }
}
