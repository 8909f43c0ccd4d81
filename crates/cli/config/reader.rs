//! A TOML document as tables that remember where everything was written.
//!
//! A section takes the keys it knows one by one; [`Table::finish`] then refuses what is left, so
//! that no key is ever ignored in silence.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use lifeboat_model::Fault;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::suggest::{either, nearest};

/// The parsed file.
pub(super) struct Document<'t> {
    file: String,
    text: &'t str,
    root: DeTable<'t>,
}

impl<'t> Document<'t> {
    pub fn parse(path: &Path, text: &'t str) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { file, text, root: root.into_inner() }),
            Err(error) => Err(ConfigError {
                detail: format!("not valid TOML: {}", one_line(error.message())),
                line: error.span().map(|span| line_of(text, span.start)),
                file,
                hint: "texts are quoted (key = \"value\"), sections are [in.brackets]; see config/example.toml".into(),
                fault: Fault::Usage,
            }),
        }
    }

    pub fn root(&self) -> Result<Table<'_, 't>, ConfigError> {
        Table::new(self, String::new(), &self.root, 0)
    }

    pub fn error(&self, offset: usize, detail: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        ConfigError {
            detail: detail.into(),
            file: self.file.clone(),
            line: Some(line_of(self.text, offset)),
            hint: hint.into(),
            fault: Fault::Usage,
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

/// One value and where it is.
#[derive(Clone)]
pub(super) struct Field<'d, 't> {
    document: &'d Document<'t>,
    /// The dotted key, e.g. `sources.app.path`.
    pub key: String,
    value: &'d DeValue<'t>,
    /// Byte offset of the key.
    pub offset: usize,
}

/// One table of the document.
pub(super) struct Table<'d, 't> {
    document: &'d Document<'t>,
    name: String,
    offset: usize,
    fields: BTreeMap<&'d str, Field<'d, 't>>,
    known: Vec<&'static str>,
}

impl<'d, 't> Table<'d, 't> {
    fn new(
        document: &'d Document<'t>,
        name: String,
        table: &'d DeTable<'t>,
        offset: usize,
    ) -> Result<Self, ConfigError> {
        let mut fields = BTreeMap::new();
        for (key, value) in table.iter() {
            let text: &str = key.get_ref();
            let full = if name.is_empty() { text.to_owned() } else { format!("{name}.{text}") };
            let field = Field { document, key: full, value: value.get_ref(), offset: start(key) };
            fields.insert(text, field);
        }
        Ok(Self { document, name, offset, fields, known: Vec::new() })
    }

    pub fn document(&self) -> &'d Document<'t> {
        self.document
    }

    /// Takes a key if it is there; from now on it is a known one.
    pub fn take(&mut self, key: &'static str) -> Option<Field<'d, 't>> {
        self.known.push(key);
        self.fields.remove(key)
    }

    /// Takes a key that must be there; `example` shows how it looks.
    pub fn require(&mut self, key: &'static str, example: &str) -> Result<Field<'d, 't>, ConfigError> {
        if let Some(field) = self.take(key) {
            return Ok(field);
        }
        // A misspelt key explains a missing one better than its absence does.
        let near = nearest(key, self.fields.keys().copied());
        if let Some(field) = near.first().and_then(|near| self.fields.get(near)) {
            return Err(self.unknown(field));
        }
        Err(self.document.error(
            self.offset,
            format!("a key is missing: key=`{}`", self.full(key)),
            format!("write `{key} = {example}` {}", self.place()),
        ))
    }

    /// Takes a sub-table that must be there.
    pub fn require_table(&mut self, key: &'static str, keys: &str) -> Result<Table<'d, 't>, ConfigError> {
        let mut field = self.require(key, "");
        if let Err(error) = &mut field
            && error.detail.starts_with("a key is missing")
        {
            error.detail = format!("a section is missing: section=`{}`", self.full(key));
            error.hint = format!("write the section [{}] with {keys}", self.full(key));
        }
        field?.table()
    }

    /// Takes a sub-table if it is there.
    pub fn take_table(&mut self, key: &'static str) -> Result<Option<Table<'d, 't>>, ConfigError> {
        self.take(key).map(|field| field.table()).transpose()
    }

    /// Takes every key that is left, in the order of the file: the names are the operator's own.
    pub fn take_rest(&mut self) -> Vec<(&'d str, Field<'d, 't>)> {
        let mut rest: Vec<_> = std::mem::take(&mut self.fields).into_iter().collect();
        rest.sort_by_key(|(_, field)| field.offset);
        rest
    }

    /// Refuses the first key that nobody took.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.fields.values().min_by_key(|field| field.offset) {
            Some(field) => Err(self.unknown(field)),
            None => Ok(()),
        }
    }

    pub fn error(&self, detail: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        self.document.error(self.offset, detail, hint)
    }

    fn unknown(&self, field: &Field<'d, 't>) -> ConfigError {
        let key = field.key.rsplit('.').next().unwrap_or(&field.key);
        let hint = match either(&nearest(key, self.known.iter().copied())) {
            Some(names) => format!("did you mean {names}?"),
            None => format!("known keys {}: {}", self.place(), self.known.join(", ")),
        };
        field.error(format!("unknown key: key=`{}`", field.key), hint)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn place(&self) -> String {
        if self.name.is_empty() { "at the top".into() } else { format!("in [{}]", self.name) }
    }
}

fn start<T>(spanned: &Spanned<T>) -> usize {
    let Range { start, .. } = spanned.span();
    start
}

impl<'d, 't> Field<'d, 't> {
    pub fn error(&self, detail: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        self.document.error(self.offset, detail, hint)
    }

    /// The refusal of a value of the wrong form.
    pub fn mistyped(&self, wanted: &str, example: &str) -> ConfigError {
        let name = self.key.rsplit('.').next().unwrap_or(&self.key);
        self.error(
            format!("{} instead of {wanted}: key=`{}`", describe(self.value), self.key),
            format!("for example `{name} = {example}`"),
        )
    }

    pub fn text(&self, wanted: &str, example: &str) -> Result<&'d str, ConfigError> {
        match self.value {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.mistyped(wanted, example)),
        }
    }

    pub fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub fn flag(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.mistyped("true or false", "true"))
    }

    pub fn count(&self, example: &str) -> Result<u32, ConfigError> {
        let digits = match self.value {
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        digits.ok_or_else(|| self.mistyped("a whole number from 0", example))
    }

    /// A list of texts that are not empty.
    pub fn texts(&self, wanted: &str, example: &str) -> Result<Vec<String>, ConfigError> {
        texts(self.value).ok_or_else(|| self.mistyped(wanted, example))
    }

    /// A list of such lists.
    pub fn lists(&self, wanted: &str, example: &str) -> Result<Vec<Vec<String>>, ConfigError> {
        let lists = match self.value {
            DeValue::Array(array) => array.iter().map(|item| texts(item.get_ref())).collect(),
            _ => None,
        };
        lists.ok_or_else(|| self.mistyped(wanted, example))
    }

    pub fn table(self) -> Result<Table<'d, 't>, ConfigError> {
        match self.value {
            DeValue::Table(table) => Table::new(self.document, self.key, table, self.offset),
            other => {
                let detail = format!("{} instead of a section: key=`{}`", describe(other), self.key);
                Err(self.error(detail, format!("write it as a section: [{}]", self.key)))
            }
        }
    }
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let DeValue::Array(array) = value else { return None };
    let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) if !text.is_empty() => Some(text.to_string()),
        _ => None,
    };
    array.iter().map(text).collect()
}

/// What a value is, for a person. Never its text: that may be a secret.
fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text of another form",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
