//! Routing over a small product: sites, issues of them, comments of those, and texts of several kinds.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifeboat_model::{ChangedColumn, ChangedTable, ChangedValue, RowChange, SiteId};

use super::rules::{Reference, Rule, Rules};
use super::{Arrived, MemoryIndex, Routed, Router, RoutingIndex};
use crate::postgres::NamePattern;

fn table(name: &str, columns: &[&str], key: &[usize]) -> Arc<ChangedTable> {
    let column = |name: &&str| ChangedColumn { name: (*name).into(), type_name: "text".into() };
    Arc::new(ChangedTable { name: name.into(), columns: columns.iter().map(column).collect(), key: key.to_vec() })
}

fn reference(child: &str, parent: &str) -> Reference {
    Reference { child: vec![child.into()], parent: parent.into(), parent_columns: vec!["id".into()] }
}

struct World {
    router: Router,
    index: MemoryIndex,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let tables = BTreeMap::from([
            ("issues".to_owned(), Rule::Tenant("site".into())),
            ("comments".to_owned(), Rule::Via(vec![reference("issue", "issues"), reference("reply", "comments")])),
            (
                "texts".to_owned(),
                Rule::Kinds(
                    "kind".into(),
                    vec![
                        ("Issue".into(), reference("owner", "issues")),
                        ("Comment".into(), reference("owner", "comments")),
                    ],
                ),
            ),
        ]);
        let by_id = || vec![vec!["id".to_owned()]];
        let referred = BTreeMap::from([("issues".to_owned(), by_id()), ("comments".to_owned(), by_id())]);
        let router = Router::new(Rules::ByClass { root: None, tables, referred, numbers: BTreeMap::new() });
        Self { router, index: MemoryIndex::default(), sequence: 0 }
    }

    fn send(&mut self, table: &Arc<ChangedTable>, change: RowChange) -> Vec<Routed> {
        self.sequence += 1;
        let arrived = Arrived { table: table.clone(), sequence: self.sequence, change, identity: Vec::new() };
        self.router.route(arrived, &mut self.index).unwrap()
    }

    fn end(&mut self) -> Vec<Routed> {
        self.router.end_transaction(&mut self.index).unwrap()
    }
}

fn row(values: &[&str]) -> Vec<ChangedValue> {
    let value = |text: &&str| match *text {
        "-" => ChangedValue::Null,
        "=" => ChangedValue::Unchanged,
        text => ChangedValue::Text(text.as_bytes().to_vec()),
    };
    values.iter().map(value).collect()
}

fn insert(values: &[&str]) -> RowChange {
    RowChange::Insert { row: row(values) }
}

fn delete(key: &str) -> RowChange {
    RowChange::Delete { key: row(&[key]) }
}

fn sites(routed: &[Routed]) -> Vec<&str> {
    routed.iter().map(|routed| routed.site.as_ref().map_or("?", SiteId::as_str)).collect()
}

#[test]
fn rows_and_deletions_find_their_site_by_the_row_its_parents_or_the_index() {
    let (issues, comments, texts) = (
        table("issues", &["id", "site"], &[0]),
        table("comments", &["id", "issue", "reply"], &[0]),
        table("texts", &["id", "kind", "owner"], &[0]),
    );
    let mut world = World::new();
    let mut check = |table: &Arc<ChangedTable>, change: RowChange, want: &[&str]| {
        let routed = world.send(table, change.clone());
        assert_eq!(sites(&routed), want, "{change:?}");
    };
    check(&issues, insert(&["1", "acme"]), &["acme"]);
    check(&issues, insert(&["2", "beta"]), &["beta"]);
    check(&comments, insert(&["10", "2", "-"]), &["beta"]);
    check(&comments, insert(&["11", "-", "10"]), &["beta"]);
    check(&texts, insert(&["1", "Comment", "11"]), &["beta"]);
    check(&texts, insert(&["2", "Issue", "1"]), &["acme"]);
    // A cascade deletes parents first.
    check(&issues, delete("2"), &["beta"]);
    check(&comments, delete("10"), &["beta"]);
    check(&comments, delete("11"), &["beta"]);
    check(&texts, delete("1"), &["beta"]);
    check(&issues, delete("77"), &["?"]);
    let change = RowChange::Update { row: row(&["1", "acme"]), key_before: None };
    check(&issues, change, &["acme"]);
    check(&table("countries", &["id"], &[0]), insert(&["1"]), &[]);
}

#[test]
fn a_row_that_changes_its_site_goes_there_and_comes_here_and_breaks_what_hangs_on_it() {
    let (issues, texts) = (table("issues", &["id", "site"], &[0]), table("texts", &["id", "kind", "owner"], &[0]));
    let mut world = World::new();
    world.send(&issues, insert(&["1", "acme"]));
    world.send(&issues, insert(&["2", "beta"]));
    world.send(&texts, insert(&["5", "Issue", "1"]));
    let moved = world.send(&issues, RowChange::Update { row: row(&["1", "beta"]), key_before: None });
    assert_eq!(sites(&moved), ["acme", "beta"]);
    assert_eq!(moved[0].change, delete("1"));
    assert_eq!(moved[1].change, insert(&["1", "beta"]));
    let breaks = moved[1].breaks.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
    assert_eq!(breaks, Some(("acme", "beta")));
    // A leaf takes nothing with it.
    world.send(&issues, insert(&["3", "acme"]));
    let moved = world.send(&texts, RowChange::Update { row: row(&["5", "Issue", "3"]), key_before: None });
    assert_eq!((sites(&moved), moved.iter().all(|routed| routed.breaks.is_none())), (vec!["acme"], true));
    // Another key: found by the old one, and from then on by the new.
    let renamed = RowChange::Update { row: row(&["9", "acme"]), key_before: Some(row(&["3"])) };
    assert_eq!(sites(&world.send(&issues, renamed)), ["acme"]);
    assert_eq!(sites(&world.send(&issues, delete("9"))), ["acme"]);
    assert_eq!(sites(&world.send(&issues, delete("3"))), ["?"]);
}

// Explains invariant: one-order
#[test]
fn a_child_before_its_parent_waits_for_the_end_and_everything_keeps_its_order() {
    let (issues, comments) =
        (table("issues", &["id", "site"], &[0]), table("comments", &["id", "issue", "reply"], &[0]));
    let mut world = World::new();
    assert!(world.send(&comments, insert(&["11", "-", "10"])).is_empty());
    assert!(world.send(&comments, insert(&["10", "1", "-"])).is_empty());
    assert!(world.send(&issues, insert(&["1", "acme"])).is_empty(), "what comes behind waits too");
    let change = RowChange::Update { row: row(&["11", "1", "-"]), key_before: None };
    assert!(world.send(&comments, change).is_empty());
    let routed = world.end();
    assert_eq!(sites(&routed), ["acme"; 4]);
    assert_eq!(routed.iter().map(|routed| routed.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(world.send(&comments, insert(&["20", "99", "-"])).is_empty());
    assert!(world.send(&comments, delete("20")).is_empty());
    assert_eq!(sites(&world.end()), ["?", "?"], "of an issue that nobody knows");
    assert!(world.end().is_empty());
}

#[test]
fn without_a_key_the_row_before_says_whose_it_was() {
    let mut world = World::new();
    world.router = Router::new(Rules::ByClass {
        root: None,
        numbers: BTreeMap::new(),
        tables: BTreeMap::from([("log".to_owned(), Rule::Tenant("site".into()))]),
        referred: BTreeMap::new(),
    });
    let log = table("log", &["site", "text"], &[]);
    assert_eq!(sites(&world.send(&log, insert(&["acme", "x"]))), ["acme"]);
    let gone = RowChange::Delete { key: row(&["acme", "x"]) };
    assert_eq!(sites(&world.send(&log, gone)), ["acme"]);
    let moved = RowChange::Update { row: row(&["beta", "y"]), key_before: Some(row(&["acme", "y"])) };
    assert_eq!(sites(&world.send(&log, moved)), ["acme", "beta"]);
    // By an identity that is not the key.
    let issues = table("log", &["id", "site"], &[0]);
    let arrived =
        Arrived { table: issues, sequence: 1, change: delete("7"), identity: vec![(1, row(&["acme"])[0].clone())] };
    assert_eq!(sites(&world.router.route(arrived, &mut world.index).unwrap()), ["acme"]);
}

#[test]
fn a_truncated_table_is_forgotten() {
    let issues = table("issues", &["id", "site"], &[0]);
    let mut world = World::new();
    world.send(&issues, insert(&["1", "acme"]));
    world.router.truncate("issues", &mut world.index).unwrap();
    assert_eq!(sites(&world.send(&issues, delete("1"))), ["?"]);
    world.index.forget_table("nothing").unwrap();
}

#[test]
fn with_a_schema_a_site_the_schema_says_whose_it_is() {
    let names = NamePattern::parse("tenant_{site}").unwrap();
    let left_out = vec![crate::postgres::TableName::quoted("jobs")];
    let mut world = World::new();
    world.router = Router::by_schema(names, vec!["tenant_none".into()], left_out, Vec::new());
    let mut check = |name: &str, want: &[&str]| {
        let table = table(name, &["id"], &[0]);
        assert_eq!(sites(&world.send(&table, insert(&["1"]))), want, "{name}");
        assert_eq!(sites(&world.send(&table, delete("1"))), want, "{name}");
    };
    check("tenant_acme.issues", &["acme"]);
    check(r#""tenant_O'Hara".issues"#, &["O'Hara"]);
    check("tenant_acme.jobs", &[]);
    check("tenant_none.issues", &[]);
    check("public.issues", &[]);
}
