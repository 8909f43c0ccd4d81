//! Whose the tables of a database are that is followed, by either way in which its sites are kept apart.

use std::collections::BTreeSet;

use lifeboat_model::SiteId;

use crate::postgres::routing::{IndexQuery, Router};
use crate::postgres::tenancy::{self, Owners};
use crate::postgres::{Catalogue, Class, Classes, PostgresSource, Table, TableName, Tenancy, classify};
use crate::{Error, Source};

/// A database as it is now, or under a snapshot.
pub(super) struct Sites {
    pub router: Router,
    pub catalogue: Catalogue,
    owned: Owned,
}

enum Owned {
    ByClass(Classes),
    BySchema { schemas: BTreeSet<String>, owners: Owners },
}

impl Sites {
    pub fn load(source: &PostgresSource) -> Result<Self, Error> {
        let mut session = source.server().connect()?;
        let catalogue = Catalogue::load_schema(&mut session, None)?;
        let name = source.name().as_str();
        match source.config().tenancy {
            Tenancy::Column => {
                let classes = classify(name, &catalogue, source.config())?;
                let router = Router::by_class(&classes, &catalogue);
                Ok(Self { router, catalogue, owned: Owned::ByClass(classes) })
            }
            Tenancy::Schema => {
                let schemas: BTreeSet<String> = tenancy::names(&mut session, source.config())?.into_iter().collect();
                let owned = Owned::BySchema { schemas, owners: Owners::of(name, &catalogue, source.config())? };
                let of_sites = |table: &&Table| owned.is_of_sites(table);
                let known = catalogue.tables.values().filter(of_sites).filter_map(|table| {
                    let site = SiteId::new(source.config().names.site_of(&table.schema)?).ok()?;
                    Some((table.name.as_str().to_owned(), site, table.oid))
                });
                let config = source.config();
                let router = Router::by_schema(
                    config.names.clone(),
                    config.not_sites.clone(),
                    config.ignored.clone(),
                    known.collect(),
                );
                Ok(Self { router, catalogue, owned })
            }
            Tenancy::Database => Err(Error::BadConfig {
                source_name: name.to_owned(),
                detail: "changes of a database a site are not captured in this version".into(),
                hint: "such sites get back to their snapshots: back them up as often as you can afford to lose".into(),
            }),
        }
    }

    /// Whether rows of the table are sites'.
    pub fn is_of_sites(&self, table: &Table) -> bool {
        self.owned.is_of_sites(table)
    }

    /// Whether each site has its tables to itself.
    pub fn has_own_tables(&self) -> bool {
        matches!(self.owned, Owned::BySchema { .. })
    }

    /// Tables whose rows nobody knows to be whose.
    pub fn unclassed(&self) -> Vec<TableName> {
        let Owned::ByClass(classes) = &self.owned else { return Vec::new() };
        let is_unclassed = |class: &Class| matches!(class, Class::Unclassed { .. });
        classes.iter().filter(|(_, class)| is_unclassed(class)).map(|(table, _)| table.clone()).collect()
    }

    pub fn refuse_unclassed(&self, source_name: &str) -> Result<(), Error> {
        match &self.owned {
            Owned::ByClass(classes) => classes.refuse_unclassed(source_name),
            Owned::BySchema { .. } => Ok(()),
        }
    }

    /// What fills the routing index; nothing where the schema says whose a row is.
    pub fn index_queries(&self) -> Vec<IndexQuery> {
        match &self.owned {
            Owned::ByClass(classes) => self.router.index_queries(classes, &self.catalogue),
            Owned::BySchema { .. } => Vec::new(),
        }
    }
}

impl Owned {
    fn is_of_sites(&self, table: &Table) -> bool {
        match self {
            Self::ByClass(classes) => classes.is_of_sites(&table.name),
            Self::BySchema { schemas, owners } => schemas.contains(&table.schema) && owners.is_of_sites(table, None),
        }
    }
}
