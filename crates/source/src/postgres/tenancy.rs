//! Where one site's rows are: in which database, in which schema of it, and which of the rows there.
//!
//! ```text
//! column     one database, the same tables for all: a condition a table says whose a row is
//! schema     one database, a schema a site: every row in it
//! database   a database a site: every row in it
//! ```

use lifeboat_model::SiteId;

use super::catalogue::queries;
use super::describe::literal;
use super::target::copied_schemas;
use super::{Catalogue, Classes, PostgresConfig, Server, Session, Table, TableKind, TableName, Tenancy, classify};
use crate::Error;

/// The longest name the server takes; it would cut a longer one, and mean somebody else.
const NAME_LEN_MAX: usize = 63;

/// How a schema or database is called after its site: text around one `{site}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    before: String,
    after: String,
}

impl NamePattern {
    /// `None`: `{site}` does not stand in it exactly once.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once("{site}")?;
        (!after.contains("{site}")).then(|| Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// What the site's schema or database is called; `None`: no name can be that long.
    pub fn name_of(&self, site: &SiteId) -> Option<String> {
        let name = format!("{}{site}{}", self.before, self.after);
        (name.len() <= NAME_LEN_MAX && !name.contains('\0')).then_some(name)
    }

    /// The site that a schema or database is of.
    pub fn site_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let site = name.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        (!site.is_empty()).then_some(site)
    }
}

impl Default for NamePattern {
    /// The site itself.
    fn default() -> Self {
        Self { before: String::new(), after: String::new() }
    }
}

/// The place of one site's rows.
#[derive(Clone)]
pub(super) struct Home {
    /// The database they are in.
    pub server: Server,
    /// The database that the configuration names: it is there when a site's own is not.
    pub door: Server,
    /// The schema that is all the site's.
    pub schema: Option<String>,
    pub tenancy: Tenancy,
    /// Whether there is such a schema or database now.
    pub exists: bool,
}

impl Home {
    /// Of sites that share their tables.
    pub fn shared(server: &Server) -> Self {
        let (server, door) = (server.clone(), server.clone());
        Self { server, door, schema: None, tenancy: Tenancy::Column, exists: true }
    }

    /// Whether the site has a schema or a database of its own.
    pub fn is_own(&self) -> bool {
        self.tenancy != Tenancy::Column
    }

    /// The catalogue of the place; without tables where there is no such place.
    pub fn catalogue(&self) -> Result<Catalogue, Error> {
        let server = if self.exists { &self.server } else { &self.door };
        let mut session = server.connect()?;
        if self.exists {
            return Catalogue::load_schema(&mut session, self.schema.as_deref());
        }
        Ok(Catalogue::empty(Catalogue::server(&mut session)?))
    }
}

/// A table, and which of its rows are one site's.
#[derive(Debug, Clone)]
pub(super) struct SiteTable {
    pub table: Table,
    /// Whether a row is this site's, as SQL over the alias `t`.
    pub condition: String,
    /// The same in words, for all sites; `None`: every row is this one's.
    pub rule: Option<String>,
}

/// Whose the rows of a database, or of a schema of it, are.
pub(super) enum Owners {
    /// Each row says so itself.
    ByClass(Box<Classes>),
    /// One site's, all of them but those of tables that are left out.
    One { left_out: Vec<TableName> },
}

impl Owners {
    /// Refuses tables whose rows nobody knows to be whose.
    pub fn of(source_name: &str, catalogue: &Catalogue, config: &PostgresConfig) -> Result<Self, Error> {
        if config.tenancy == Tenancy::Column {
            let classes = classify(source_name, catalogue, config)?;
            classes.refuse_unclassed(source_name)?;
            return Ok(Self::ByClass(Box::new(classes)));
        }
        Ok(Self::One { left_out: config.ignored.clone() })
    }

    /// The tables that hold rows of sites, each with the condition that says which are this one's.
    pub fn tables(&self, catalogue: &Catalogue, schema: Option<&str>, site: &SiteId) -> Vec<SiteTable> {
        let tenant = literal(site.as_str());
        let tables = catalogue.tables.values().filter(|table| self.is_of_sites(table, schema));
        let condition = |table: &Table| match self {
            Self::ByClass(classes) => classes.predicate(&table.name, "t", &tenant),
            Self::One { .. } => "true".to_owned(),
        };
        let rule = |table: &Table| match self {
            Self::ByClass(classes) => classes.get(&table.name).map(ToString::to_string),
            Self::One { .. } => None,
        };
        let one = |table: &Table| SiteTable { table: table.clone(), condition: condition(table), rule: rule(table) };
        tables.map(one).collect()
    }

    /// Whether its rows are read, and through this very table.
    pub fn is_of_sites(&self, table: &Table, schema: Option<&str>) -> bool {
        match self {
            Self::ByClass(classes) => classes.is_of_sites(&table.name),
            Self::One { left_out } => {
                let is_here = schema.is_none_or(|schema| table.schema == schema);
                let is_left_out = left_out.iter().any(|name| is_meant(name, table));
                is_here && table.holds_rows() && table.kind != TableKind::Foreign && !is_left_out
            }
        }
    }
}

/// A name without a schema means the table of that name in every schema that is read.
fn is_meant(name: &TableName, table: &Table) -> bool {
    let rest = table.name.as_str().strip_suffix(name.as_str()).and_then(|rest| rest.strip_suffix('.'));
    *name == table.name || rest.is_some_and(|schema| unquoted(schema) == table.schema)
}

/// A name without the quotes that it has in SQL.
fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}

/// Schemas or databases that are sites', as the pattern says.
pub(super) fn names(session: &mut Session, config: &PostgresConfig) -> Result<Vec<String>, Error> {
    Ok(all_names(session, config)?.into_iter().filter(|name| is_site(config, name)).collect())
}

/// Those that are no site's.
pub(super) fn other_names(session: &mut Session, config: &PostgresConfig) -> Result<Vec<String>, Error> {
    Ok(all_names(session, config)?.into_iter().filter(|name| !is_site(config, name)).collect())
}

fn is_site(config: &PostgresConfig, name: &str) -> bool {
    !config.not_sites.iter().any(|other| other == name) && config.names.site_of(name).is_some()
}

/// All that may be somebody's: what a restore has put beside is a copy, and nobody's.
fn all_names(session: &mut Session, config: &PostgresConfig) -> Result<Vec<String>, Error> {
    let (query, action) = match config.tenancy {
        Tenancy::Database => (queries::DATABASES, "cannot list the databases"),
        Tenancy::Schema | Tenancy::Column => (queries::SCHEMAS, "cannot list the schemas"),
    };
    let rows = session.query(query, &[]).map_err(|error| session.failed(action, &error))?;
    let mut names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if config.tenancy == Tenancy::Schema {
        let copies = copied_schemas(session)?;
        let is_copy = |name: &String| copies.iter().any(|copy| unquoted(&copy.name) == *name);
        names.retain(|name| !is_copy(name));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_leads_from_a_site_to_its_name_and_back() {
        for (pattern, site, want) in [
            ("{site}", "acme", Some("acme")),
            ("tenant_{site}", "acme", Some("tenant_acme")),
            ("{site}_prod", "o'hara", Some("o'hara_prod")),
        ] {
            let pattern = NamePattern::parse(pattern).unwrap();
            let name = pattern.name_of(&SiteId::new(site).unwrap());
            assert_eq!(name.as_deref(), want);
            assert_eq!(pattern.site_of(&name.unwrap()), Some(site));
        }
        for wrong in ["tenant", "{site}{site}", ""] {
            assert_eq!(NamePattern::parse(wrong), None, "{wrong}");
        }
        let pattern = NamePattern::parse("tenant_{site}").unwrap();
        for other in ["public", "tenant_", "xtenant_a"] {
            assert_eq!(pattern.site_of(other), None, "{other}");
        }
        assert_eq!(pattern.name_of(&SiteId::new("x".repeat(60)).unwrap()), None);
    }
}
