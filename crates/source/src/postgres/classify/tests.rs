//! Classes of small made-up catalogues.

use std::collections::BTreeMap;

use lifeboat_model::Faulty;

use super::*;
use crate::postgres::{
    ForeignKey, NamePattern, Reference, ServerFacts, Table, TableKind, TableRule, Tenancy, UniqueKey,
};

/// Tables are written `name: column column! …` (`!`: NOT NULL, `#`: the primary key, `name:type`), with
/// `column -> parent` for a foreign key to the parent's `id`.
fn catalogue(tables: &[&str]) -> Catalogue {
    let mut catalogue = Catalogue {
        server: ServerFacts {
            system_identifier: "1".into(),
            database: "app".into(),
            version: 150_000,
            encoding: "UTF8".into(),
            is_standby: false,
            role: "r".into(),
            is_superuser: false,
            bypasses_rls: true,
        },
        tables: BTreeMap::new(),
        foreign_keys: Vec::new(),
        sequences: Vec::new(),
        views: vec![TableName::quoted("public.v")],
    };
    for text in tables {
        let (name, columns) = text.split_once(": ").expect("a name");
        let name = TableName::quoted(format!("public.{name}"));
        let mut table = empty_table(&name);
        let words: Vec<&str> = columns.split(' ').collect();
        for (at, word) in words.iter().enumerate() {
            if *word == "->" || at > 0 && words[at - 1] == "->" {
                continue;
            }
            let (word, type_name) = word.split_once(':').unwrap_or((word, "text"));
            let column = word.trim_end_matches(['!', '#']);
            if word.ends_with('#') {
                table.primary_key.get_or_insert_default().push(table.columns.len());
            }
            let is_total = word.ends_with(['!', '#']);
            table.columns.push(new_column(column, type_name, is_total));
            if words.get(at + 1) == Some(&"->") {
                catalogue.foreign_keys.push(ForeignKey {
                    name: format!("{name}_{column}"),
                    child: name.clone(),
                    child_columns: vec![column.into()],
                    parent: TableName::quoted(format!("public.{}", words[at + 2])),
                    parent_columns: vec!["id".into()],
                    is_total,
                    is_match_full: false,
                    is_validated: true,
                });
            }
        }
        catalogue.tables.insert(name, table);
    }
    catalogue
}

fn empty_table(name: &TableName) -> Table {
    Table {
        oid: 1,
        name: name.clone(),
        kind: TableKind::Ordinary,
        columns: Vec::new(),
        primary_key: None,
        unique_keys: Vec::new(),
        row_security: false,
        schema: "public".into(),
        is_unlogged: false,
        always_triggers: Vec::new(),
        privileges: [true; 4],
        rows_estimate: 0,
    }
}

fn new_column(name: &str, type_name: &str, not_null: bool) -> Column {
    let is_bare = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    Column {
        number: 1,
        name: name.into(),
        quoted: if is_bare { name.into() } else { format!("\"{name}\"") },
        type_name: type_name.into(),
        not_null,
        is_generated: false,
        identity: None,
        is_collatable: type_name == "text",
        is_large_object: false,
        equals: if type_name == "x.citext" { "OPERATOR(x.=)".into() } else { "=".into() },
    }
}

fn config() -> PostgresConfig {
    PostgresConfig {
        url: String::new(),
        tenancy: Tenancy::Column,
        names: NamePattern::default(),
        not_sites: Vec::new(),
        pg_dump: None,
        tenant_column: Some("site".into()),
        root: None,
        shared: Vec::new(),
        ignored: Vec::new(),
        tables: BTreeMap::new(),
    }
}

fn name(name: &str) -> TableName {
    TableName::quoted(name)
}

fn via(child: &[&str], parent: &str, columns: &[&str]) -> TableRule {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    TableRule::Via(Reference { child_columns: owned(child), parent: name(parent), parent_columns: owned(columns) })
}

/// The class of each table in words.
#[track_caller]
fn check(tables: &[&str], config: &PostgresConfig, want: &[(&str, &str)]) {
    let classes = classify("app", &catalogue(tables), config).expect("good configuration");
    let got: Vec<(String, String)> = classes
        .iter()
        .map(|(table, class)| {
            let words = match class {
                Class::Unclassed { suggestion } => format!("? {suggestion}"),
                class => class.to_string(),
            };
            (table.as_str().replace("public.", ""), words.replace("public.", ""))
        })
        .collect();
    let got: Vec<(&str, &str)> = got.iter().map(|(table, words)| (table.as_str(), words.as_str())).collect();
    assert_eq!(got, want);
}

#[test]
fn the_shortest_path_that_is_never_null_says_whose_a_row_is() {
    // Never NULL, though longer, goes before one that may be.
    let tables = ["a: id# site!", "b: id# a! -> a", "c: id# b! -> b a -> a"];
    check(&tables, &config(), &[("a", "direct by site"), ("b", "via a -> a.id"), ("c", "via b -> b.id")]);
    // Of two that are never NULL the shorter one.
    let tables = ["a: id# site!", "b: id# a! -> a", "c: id# b! -> b a! -> a"];
    check(&tables, &config(), &[("a", "direct by site"), ("b", "via a -> a.id"), ("c", "via a -> a.id")]);
    // A table's reference to itself leads nowhere, and hurts nothing.
    let tables = ["a: id# site!", "b: id# up -> b a! -> a"];
    check(&tables, &config(), &[("a", "direct by site"), ("b", "via a -> a.id")]);
}

// Explains invariant: no-way-back
#[test]
fn paths_that_may_be_null_all_count_and_never_lead_back() {
    let tables = ["a: id# site!", "b: id# site!", "c: id# a -> a b -> b"];
    check(
        &tables,
        &config(),
        &[("a", "direct by site"), ("b", "direct by site"), ("c", "via a -> a.id, else b -> b.id")],
    );
    // Each refers to the other: one of them knows the tenant.
    let tables = ["a: id# site!", "post: id# thread! -> thread", "thread: id# a -> a last -> post"];
    check(
        &tables,
        &config(),
        &[("a", "direct by site"), ("post", "via thread -> thread.id"), ("thread", "via a -> a.id")],
    );
    // `d` is found a step later than `c`, and still counts.
    let tables = ["a: id# site!", "b: id# a -> a", "c: id# a -> a b -> b"];
    check(
        &tables,
        &config(),
        &[("a", "direct by site"), ("b", "via a -> a.id"), ("c", "via a -> a.id, else b -> b.id")],
    );
}

#[test]
fn a_reference_to_the_root_is_the_site_unless_there_are_two() {
    let mut config = config();
    (config.root, config.tenant_column) = (Some(name("org")), None);
    let tables = [
        "org: id#",
        "user: id# org! -> org",
        "move: id# from! -> org to! -> org user! -> user",
        "loan: id# owner! -> org lent_to -> org",
    ];
    check(
        &tables,
        &config,
        &[
            ("loan", "direct by owner"),
            ("move", "? tables.\"move\".tenant_column = \"from\""),
            ("org", "root by id"),
            ("user", "direct by org"),
        ],
    );
}

#[test]
fn what_the_operator_says_goes_before_what_is_found() {
    let tables = ["a: id# site!", "b: id# a! -> a other", "c: id# other", "d: id# site!", "e: id# site!", "f: x# y#"];
    let mut config = config();
    config.shared = vec![name("d")];
    config.ignored = vec![name("public.e")];
    config.tables.insert(name("b"), TableRule::TenantColumn("other".into()));
    config.tables.insert(name("c"), via(&["other"], "a", &["id"]));
    let map = BTreeMap::from([("A".to_owned(), (name("a"), "id".to_owned()))]);
    config.tables.insert(name("f"), TableRule::Polymorphic { kind: "x".into(), id: "y".into(), map });
    check(
        &tables,
        &config,
        &[
            ("a", "direct by site"),
            ("b", "direct by other"),
            ("c", "via other -> a.id"),
            ("d", "shared"),
            ("e", "ignored"),
            ("f", "via x, A: y -> a.id"),
        ],
    );
}

#[test]
fn a_table_of_unknown_class_comes_with_a_line_that_would_class_it() {
    let line = |table: &str| {
        let mut config = config();
        config.ignored = vec![name("old")];
        let tables = ["issues: id#:bigint site!", "old: id#", table];
        let classes = classify("app", &catalogue(&tables), &config).expect("good configuration");
        let refusal = classes.refuse_unclassed("app").expect_err("is unclassed").to_string();
        assert!(refusal.contains("whose rows are those of `public."), "{refusal}");
        classes.suggested_lines().join("\n")
    };
    let rows = [
        (
            "comments: id# issue_id:bigint",
            "tables.\"public.comments\".via = \"public.comments.issue_id -> public.issues.id\"",
        ),
        ("comments: id# issue_id:uuid", "shared = [\"public.comments\"]"),
        ("x: id# sites", "tables.\"public.x\".tenant_column = \"sites\""),
        ("x: id# workspace_id", "tables.\"public.x\".tenant_column = \"workspace_id\""),
        (
            "likes: id# target_type target_id:bigint",
            "tables.\"public.likes\".via = { type = \"target_type\", id = \"target_id\", map = { Issue = \"public.issues.id\" } }",
        ),
        ("schema_migrations: version#", "ignored = [\"public.old\", \"public.schema_migrations\"]"),
        ("countries: code#", "shared = [\"public.countries\"]"),
    ];
    for (table, want) in rows {
        assert_eq!(line(table), want, "{table}");
    }
    // Others' tenant columns refer to it.
    let tables = ["issues: id# site! -> sites", "sites: id#"];
    let classes = classify("app", &catalogue(&tables), &config()).expect("good configuration");
    assert_eq!(classes.suggested_lines(), ["root = \"public.sites\""]);
}

#[test]
fn partitions_are_their_root_s_and_foreign_tables_nobody_s() {
    let mut catalogue = catalogue(&["a: id# site!", "a_1: id# site!", "f: id# site!", "b: id# a! -> a_1"]);
    let kinds = [("public.a", TableKind::PartitionRoot), ("public.f", TableKind::Foreign)];
    let leaf = ("public.a_1", TableKind::Partition { root: name("public.a") });
    for (table, kind) in kinds.into_iter().chain([leaf]) {
        catalogue.tables.get_mut(&name(table)).expect("is there").kind = kind;
    }
    let classes = classify("app", &catalogue, &config()).expect("good configuration");
    let words = |table: &str| classes.get(&name(table)).expect("has a class").to_string();
    assert_eq!(words("public.a_1"), "partition of public.a");
    assert_eq!(words("public.b"), "via a -> public.a.id", "a reference to a partition is one to the whole");
    assert_eq!(classes.suggested_lines(), ["ignored = [\"public.f\"]"]);
    assert!(classes.is_of_sites(&name("public.a")) && !classes.is_of_sites(&name("public.a_1")));
    assert_eq!(
        classes.predicate(&name("public.b"), "t", "'x'"),
        "EXISTS (SELECT FROM public.a p1 WHERE p1.id = t.a AND p1.site = 'x')"
    );
}

#[test]
fn a_configuration_that_names_what_is_not_there_is_refused_with_the_nearest_name() {
    let mut tables = catalogue(&["orders: id# site! Ref", "lines: id# order! note", "keys: a# b#"]);
    tables.tables.get_mut(&name("public.lines")).expect("is there").unique_keys.push(UniqueKey {
        name: "u".into(),
        columns: vec![2],
        nulls_equal: false,
        is_deferrable: false,
    });
    let check = |change: &dyn Fn(&mut PostgresConfig), want: &str, hint: &str| {
        let mut config = config();
        change(&mut config);
        let error = classify("app", &tables, &config).expect_err(want);
        let text = error.to_string();
        assert!(text.contains(want), "{text}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{:?}", error.hint());
    };
    let rule = |table: &str, rule: TableRule| {
        let table = name(table);
        move |config: &mut PostgresConfig| drop(config.tables.insert(table.clone(), rule.clone()))
    };
    check(&|config| config.shared = vec![name("order")], "`shared` names no table: name=`order`", "public.orders");
    check(&|config| config.ignored = vec![name("app.orders")], "`ignored` names no table", "public.orders");
    check(&|config| config.shared = vec![name("a..b")], "none in SQL", "format(");
    check(&|config| config.shared = vec![name("v")], "names a view", "leave it out");
    check(
        &|config| config.root = Some(name("keys")),
        "is not one column: table=`public.keys`, columns=`2`",
        "tenant_column",
    );
    check(&|config| config.tenant_column = Some("sites".into()), "no table has the column", "did you mean site?");
    check(&|config| config.tenant_column = None, "neither `tenant_column` nor `root`", "site_id");
    check(&|config| config.shared = vec![name("orders"), name("public.orders")], "named twice", "one of them");
    check(
        &rule("orders", TableRule::TenantColumn("ref".into())),
        "no column of `public.orders`: name=`ref`",
        "\"Ref\"",
    );
    check(&rule("lines", via(&["ordr"], "orders", &["id"])), "no column of `public.lines`", "order");
    check(&rule("lines", via(&["order"], "orders", &["site"])), "not unique: table=`public.orders`", "primary key");
    check(&rule("lines", via(&["order"], "keys", &["a"])), "not unique", "primary key");
    check(&rule("lines", via(&["order"], "lines", &["note"])), "from a table to itself", "whose rows");
    check(&rule("lines", via(&["order", "note"], "orders", &["id"])), "another number of columns", "such as");
    let dead = |config: &mut PostgresConfig| {
        config.shared = vec![name("keys")];
        config.tables.insert(name("lines"), via(&["order", "note"], "keys", &["a", "b"]));
    };
    check(&dead, "not of sites: table=`public.keys`", "belong to sites");
}

#[test]
fn a_name_is_read_as_sql_reads_it() {
    let check = |text: &str, want: Option<&[&str]>| {
        let want = want.map(|parts| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(names::parts(text), want, "{text}");
    };
    check("orders", Some(&["orders"]));
    check("App.Orders", Some(&["app", "orders"]));
    check("app.\"Site\"", Some(&["app", "Site"]));
    check("\"Audit Log\".\"a\"\"b.c\"", Some(&["Audit Log", "a\"b.c"]));
    check("a.b.c", Some(&["a", "b", "c"]));
    for wrong in ["", "a.", ".a", "\"a", "\"a\"b", "\"\"", "a..b"] {
        check(wrong, None);
    }
}

#[test]
fn a_condition_compares_in_the_column_s_type_and_takes_no_second_spelling() {
    let tables = catalogue(&["n: id# site!:integer", "c: id# site!:x.citext", "k: id# kind! ref!"]);
    let mut config = config();
    let map = [("N", "n"), ("C", "c")].map(|(kind, table)| (kind.to_owned(), (name(table), "id".to_owned())));
    config.tables.insert(name("k"), TableRule::Polymorphic { kind: "kind".into(), id: "ref".into(), map: map.into() });
    let classes = classify("app", &tables, &config).expect("good configuration");
    let check = |table: &str, want: &str| assert_eq!(classes.predicate(&name(table), "t", "'7'"), want);
    check("public.n", "(t.site = '7'::integer AND '7'::integer::text = '7')");
    check("public.c", "(t.site OPERATOR(x.=) '7'::x.citext AND t.site::text = '7')");
    check(
        "public.k",
        "(t.kind::text = 'C' AND EXISTS (SELECT FROM ONLY public.c p1 WHERE p1.id = t.ref AND \
         (p1.site OPERATOR(x.=) '7'::x.citext AND p1.site::text = '7')) OR t.kind::text = 'N' AND EXISTS (SELECT FROM ONLY \
         public.n p1 WHERE p1.id = t.ref AND (p1.site = '7'::integer AND '7'::integer::text = '7')))",
    );
    let tenant = classes.tenant_of(&name("public.k"));
    assert_eq!(
        tenant.expression,
        "CASE WHEN t.kind::text = 'C' THEN p1.site::text WHEN t.kind::text = 'N' THEN p2.site::text END"
    );
    assert_eq!(
        tenant.joins,
        "LEFT JOIN ONLY public.c p1 ON t.kind::text = 'C' AND p1.id = t.ref LEFT JOIN ONLY public.n p2 ON \
         t.kind::text = 'N' AND p2.id = t.ref"
    );
    assert_eq!(classes.predicate(&name("public.unknown"), "t", "'7'"), "false");
}
