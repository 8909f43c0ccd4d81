//! How a table's rows say whose they are, in the names that changes have.

use std::collections::BTreeMap;

use lifeboat_model::{ChangedTable, SiteId};

use super::super::classify::parts;
use super::super::{Catalogue, Class, Classes, NamePattern, Step, TableName};
use super::Router;

/// Columns are named as they are in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// Every row is this site's.
    One(SiteId),
    /// By this column.
    Tenant(String),
    /// By the row referred to: the first of these references whose columns are all filled.
    Via(Vec<Reference>),
    /// By the row referred to, whose table this column says.
    Kinds(String, Vec<(String, Reference)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub child: Vec<String>,
    pub parent: String,
    pub parent_columns: Vec<String>,
}

pub(super) enum Rules {
    /// Sites share their tables.
    ByClass {
        /// The table that has a row for each site, as the catalogue names it.
        root: Option<String>,
        tables: BTreeMap<String, Rule>,
        /// By which columns others refer to a table's rows.
        referred: BTreeMap<String, Vec<Vec<String>>>,
        /// Which table has this name: its number in the database.
        numbers: BTreeMap<String, u32>,
    },
    /// A schema a site.
    BySchema {
        names: NamePattern,
        not_sites: Vec<String>,
        left_out: Vec<TableName>,
        known: BTreeMap<String, Rule>,
        /// Which table has this name: its number in the database.
        numbers: BTreeMap<String, u32>,
    },
}

impl Router {
    /// For sites that share their tables.
    pub fn by_class(classes: &Classes, catalogue: &Catalogue) -> Self {
        let plain = |table: &TableName, quoted: &String| {
            let columns = catalogue.tables.get(table).map(|table| table.columns.as_slice()).unwrap_or_default();
            let column = columns.iter().find(|column| column.quoted == *quoted);
            column.map_or_else(|| quoted.clone(), |column| column.name.clone())
        };
        let (mut tables, mut referred) = (BTreeMap::new(), BTreeMap::<String, Vec<Vec<String>>>::new());
        let (mut numbers, mut root) = (BTreeMap::new(), None);
        for (table, class) in classes.iter() {
            if matches!(class, Class::Root { .. }) {
                root = Some(table.as_str().to_owned());
            }
            let reference = |step: &Step| Reference {
                child: step.child_columns.iter().map(|name| plain(table, name)).collect(),
                parent: step.parent.as_str().to_owned(),
                parent_columns: step.parent_columns.iter().map(|name| plain(&step.parent, name)).collect(),
            };
            let rule = match class {
                Class::Root { column } | Class::Direct { column } => Rule::Tenant(column.name.clone()),
                Class::Via { steps } => Rule::Via(steps.iter().map(reference).collect()),
                Class::Polymorphic { kind, targets } => {
                    let targets = targets.iter().map(|(value, step)| (value.clone(), reference(step)));
                    Rule::Kinds(plain(table, kind), targets.collect())
                }
                _ => continue,
            };
            for reference in rule.references() {
                let sets = referred.entry(reference.parent.clone()).or_default();
                if !sets.contains(&reference.parent_columns) {
                    sets.push(reference.parent_columns.clone());
                }
            }
            let number = catalogue.tables.get(table).map_or(0, |table| table.oid);
            numbers.insert(table.as_str().to_owned(), number);
            tables.insert(table.as_str().to_owned(), rule);
        }
        Self::new(Rules::ByClass { root, tables, referred, numbers })
    }

    /// What an index that is filled by these rules counts on, by table: its name, its number, whose its rows are,
    /// and by which columns they are looked up. As text, to be compared; the number comes first.
    pub fn counted_on(&self) -> BTreeMap<String, String> {
        let (tables, referred, numbers) = match &self.rules {
            Rules::ByClass { tables, referred, numbers, .. } => (tables, referred, numbers),
            Rules::BySchema { numbers, .. } => {
                return numbers.iter().map(|(table, number)| (table.clone(), number.to_string())).collect();
            }
        };
        let one = |(table, rule): (&String, &Rule)| {
            let text = format!("{rule:?} {:?}", referred.get(table));
            let number = numbers.get(table).copied().unwrap_or_default();
            (table.clone(), format!("{number} {}", &blake3::hash(text.as_bytes()).to_hex()[..16]))
        };
        tables.iter().map(one).collect()
    }

    /// For sites with a schema each; these tables are left out, those are known with their numbers.
    pub fn by_schema(
        names: NamePattern,
        not_sites: Vec<String>,
        left_out: Vec<TableName>,
        tables: Vec<(String, SiteId, u32)>,
    ) -> Self {
        let numbers = tables.iter().map(|(table, _, number)| (table.clone(), *number)).collect();
        let known = tables.into_iter().map(|(table, site, _)| (table, Rule::One(site))).collect();
        Self::new(Rules::BySchema { names, not_sites, left_out, known, numbers })
    }

    /// Whose all of the table's rows are, by its name; `None`: nobody's, or sites share the table.
    pub fn owner_of(&mut self, table: &str) -> Option<SiteId> {
        self.rules.learn(table);
        match self.rules.of(table) {
            Some(Rule::One(site)) => Some(site.clone()),
            _ => None,
        }
    }

    /// Whether it is the table that has a row for each site.
    pub fn is_root(&self, table: &str) -> bool {
        matches!(&self.rules, Rules::ByClass { root: Some(root), .. } if root == table)
    }

    /// Whether each site has its tables to itself.
    pub fn has_own_tables(&self) -> bool {
        matches!(self.rules, Rules::BySchema { .. })
    }
}

impl Rule {
    fn references(&self) -> impl Iterator<Item = &Reference> {
        let (via, kinds): (&[Reference], &[(String, Reference)]) = match self {
            Rule::Via(references) => (references, &[]),
            Rule::Kinds(_, targets) => (&[], targets),
            Rule::One(_) | Rule::Tenant(_) => (&[], &[]),
        };
        via.iter().chain(kinds.iter().map(|(_, reference)| reference))
    }
}

impl Rules {
    /// `None`: the table's rows are no site's.
    pub fn of(&self, table: &str) -> Option<&Rule> {
        match self {
            Rules::ByClass { tables, .. } => tables.get(table),
            Rules::BySchema { known, .. } => known.get(table),
        }
    }

    /// Learns of a table that a change is of.
    pub fn learn(&mut self, table: &str) {
        let Rules::BySchema { names, not_sites, left_out, known, .. } = self else { return };
        if known.contains_key(table) {
            return;
        }
        let Some([schema, name]) = parts(table).and_then(|parts| <[String; 2]>::try_from(parts).ok()) else { return };
        let is_left_out = left_out.iter().any(|other| {
            other.as_str() == table || parts(other.as_str()).as_deref() == Some(std::slice::from_ref(&name))
        });
        if is_left_out || not_sites.contains(&schema) {
            return;
        }
        if let Some(site) = names.site_of(&schema).and_then(|site| SiteId::new(site).ok()) {
            known.insert(table.to_owned(), Rule::One(site));
        }
    }

    /// By which columns a row is remembered: its primary key, and those that others refer to it by.
    pub fn sets_of(&self, table: &ChangedTable) -> Vec<Vec<String>> {
        let Rules::ByClass { referred, .. } = self else { return Vec::new() };
        let key: Vec<String> =
            table.key.iter().filter_map(|at| table.columns.get(*at)).map(|column| column.name.clone()).collect();
        let mut sets = if key.is_empty() { Vec::new() } else { vec![key] };
        for set in referred.get(&table.name).into_iter().flatten() {
            if !sets.contains(set) {
                sets.push(set.clone());
            }
        }
        sets
    }

    /// Whether rows of other tables are whose this table's rows are.
    pub fn has_children(&self, table: &str) -> bool {
        matches!(self, Rules::ByClass { referred, .. } if referred.contains_key(table))
    }
}
