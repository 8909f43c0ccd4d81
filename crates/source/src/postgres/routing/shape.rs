//! A table as changes of it are routed: places of columns instead of their names, worked out once.

use std::sync::Arc;

use lifeboat_model::{ChangedTable, ChangedValue, SiteId};

use super::index::{IndexKey, KeyOf, RoutingIndex};
use super::rules::{Reference, Rule, Rules};
use super::{Arrived, site_of_text};
use crate::Error;

pub(super) struct Shape {
    pub table: Arc<ChangedTable>,
    whose: Whose,
    /// `None`: it has no primary key.
    primary: Option<KeyOf>,
    /// What a row is remembered by, and the places of each.
    sets: Vec<(KeyOf, Vec<usize>)>,
    /// Whether rows of other tables are whose this table's rows are.
    pub has_children: bool,
}

/// How a row says whose it is. A column that the table does not have says nothing.
enum Whose {
    One(SiteId),
    Tenant(Option<usize>),
    Via(Vec<Parent>),
    Kinds(Option<usize>, Vec<(String, Parent)>),
}

/// The row that is referred to.
struct Parent {
    key: KeyOf,
    places: Vec<usize>,
}

impl Shape {
    /// `None`: the table's rows are no site's.
    pub fn new(rules: &Rules, table: &Arc<ChangedTable>) -> Option<Self> {
        let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
        let places = |names: &[String]| names.iter().map(place).collect::<Option<Vec<usize>>>();
        let parent = |reference: &Reference| {
            let key = KeyOf::new(&reference.parent, &reference.parent_columns);
            Some(Parent { key, places: places(&reference.child)? })
        };
        let whose = match rules.of(&table.name)? {
            Rule::One(site) => Whose::One(site.clone()),
            Rule::Tenant(column) => Whose::Tenant(place(column)),
            Rule::Via(references) => Whose::Via(references.iter().filter_map(parent).collect()),
            Rule::Kinds(kind, targets) => {
                let targets = targets.iter().filter_map(|(text, target)| Some((text.clone(), parent(target)?)));
                Whose::Kinds(place(kind), targets.collect())
            }
        };
        let names = |at: &usize| table.columns.get(*at).map(|column| column.name.clone());
        let key: Option<Vec<String>> = table.key.iter().map(names).collect();
        let primary = key.filter(|key| !key.is_empty()).map(|key| KeyOf::new(&table.name, &key));
        let sets = rules.sets_of(table).into_iter();
        let sets = sets.filter_map(|set| Some((KeyOf::new(&table.name, &set), places(&set)?))).collect();
        let has_children = rules.has_children(&table.name);
        Some(Self { table: Arc::clone(table), whose, primary, sets, has_children })
    }

    /// The values that a row is known by; of a table without a key all of them.
    pub fn key_in<'v>(&self, row: &'v [ChangedValue]) -> Vec<&'v ChangedValue> {
        match self.table.key.is_empty() {
            true => row.iter().collect(),
            false => self.table.key.iter().filter_map(|at| row.get(*at)).collect(),
        }
    }

    pub fn site_of_row<'v>(
        &self,
        value: impl Fn(usize) -> Option<&'v ChangedValue>,
        index: &mut dyn RoutingIndex,
    ) -> Result<Option<SiteId>, Error> {
        let is_filled = |parent: &&Parent| {
            parent.places.iter().all(|at| value(*at).is_some_and(|value| *value != ChangedValue::Null))
        };
        let parent = match &self.whose {
            Whose::One(site) => return Ok(Some(site.clone())),
            Whose::Tenant(at) => return Ok(at.and_then(&value).and_then(site_of_text)),
            Whose::Via(parents) => parents.iter().find(is_filled),
            Whose::Kinds(at, targets) => {
                let kind = at.and_then(&value);
                let is_kind = |text: &String| matches!(kind, Some(ChangedValue::Text(kind)) if kind == text.as_bytes());
                targets.iter().find(|(text, _)| is_kind(text)).map(|(_, parent)| parent)
            }
        };
        let key = parent.and_then(|parent| parent.key.of(parent.places.iter().map(|at| value(*at))));
        key.map_or(Ok(None), |key| index.site_of(&key))
    }

    /// Whose the row was that had this key.
    pub fn site_before(
        &self,
        arrived: &Arrived,
        key: &[&ChangedValue],
        index: &mut dyn RoutingIndex,
    ) -> Result<Option<SiteId>, Error> {
        let table = &self.table;
        match &self.whose {
            Whose::One(site) => return Ok(Some(site.clone())),
            Whose::Tenant(at) => {
                let in_identity =
                    arrived.identity.iter().find(|(place, _)| Some(*place) == *at).map(|(_, value)| value);
                let in_key = table.key.iter().position(|place| Some(*place) == *at).and_then(|place| key.get(place));
                // Without a primary key the key is the whole row.
                let in_row = if table.key.is_empty() { at.and_then(|at| key.get(at)) } else { None };
                if let Some(site) = in_identity.or(in_key.or(in_row).copied()).and_then(site_of_text) {
                    return Ok(Some(site));
                }
            }
            Whose::Via(_) | Whose::Kinds(..) if table.key.is_empty() => {
                return self.site_of_row(|at| key.get(at).copied(), index);
            }
            Whose::Via(_) | Whose::Kinds(..) => {}
        }
        self.primary(key).map_or(Ok(None), |key| index.site_of(&key))
    }

    /// Remembers whose the row is, by everything that it may be asked for by.
    pub fn note(&self, row: &[ChangedValue], site: Option<&SiteId>, index: &mut dyn RoutingIndex) -> Result<(), Error> {
        let Some(site) = site else { return Ok(()) };
        for (key, places) in &self.sets {
            if let Some(key) = key.of(places.iter().map(|at| row.get(*at))) {
                index.put(&self.table.name, &key, site)?;
            }
        }
        Ok(())
    }

    pub fn forget(&self, key: &[&ChangedValue], index: &mut dyn RoutingIndex) -> Result<(), Error> {
        self.primary(key).map_or(Ok(()), |key| index.remove(&key))
    }

    /// By the primary key; `None`: the table has none, or the key is not whole.
    fn primary(&self, key: &[&ChangedValue]) -> Option<IndexKey> {
        let primary = self.primary.as_ref().filter(|_| key.len() == self.table.key.len())?;
        primary.of(key.iter().map(|value| Some(*value)))
    }
}
