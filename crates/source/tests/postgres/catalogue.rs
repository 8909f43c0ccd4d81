//! The catalogue is read as it is.

use lifeboat_source::postgres::{Catalogue, Column, Identity, Table, TableKind};
use lifeboat_testkit::postgres::run_sql;

use crate::support::{catalogue, name, nasty};

fn table<'a>(catalogue: &'a Catalogue, table: &str) -> &'a Table {
    &catalogue.tables[&name(table)]
}

fn column<'a>(catalogue: &'a Catalogue, of: &str, wanted: &str) -> &'a Column {
    table(catalogue, of).columns.iter().find(|column| column.name == wanted).unwrap()
}

#[test]
fn every_kind_of_table_is_told_apart() {
    let Some(url) = nasty("every_kind_of_table_is_told_apart") else { return };
    let catalogue = catalogue(&url);
    let check = |of: &str, want: TableKind| assert_eq!(table(&catalogue, of).kind, want, "{of}");
    check("app.orders", TableKind::Ordinary);
    check("app.measurements", TableKind::PartitionRoot);
    check("app.\"measurements 2026/h1\"", TableKind::Partition { root: name("app.measurements") });
    check("app.measurements_h1_acme", TableKind::Partition { root: name("app.measurements") });
    check("app.trucks", TableKind::Inherits { parents: vec![name("app.vehicles")] });
    check("app.vehicles", TableKind::Ordinary);
    let views: Vec<&str> = catalogue.views.iter().map(|view| view.as_str()).collect();
    assert_eq!(views, ["app.order_totals", "app.order_totals_kept"]);
    assert!(table(&catalogue, "app.sessions").is_unlogged && !table(&catalogue, "app.orders").is_unlogged);
    assert!(table(&catalogue, "app.secrets").row_security && !table(&catalogue, "app.orders").row_security);
    assert_eq!(table(&catalogue, "app.invoices").always_triggers, ["notices"]);
    assert!(table(&catalogue, "app.orders").always_triggers.is_empty());
    let from = |of: &str| table(&catalogue, of).from_item();
    assert_eq!(
        (from("app.vehicles"), from("app.measurements")),
        ("ONLY app.vehicles".into(), "app.measurements".into())
    );
}

#[test]
fn columns_and_keys_are_those_of_the_table() {
    let Some(url) = nasty("columns_and_keys_are_those_of_the_table") else { return };
    let catalogue = catalogue(&url);
    let orders = table(&catalogue, "app.orders");
    assert_eq!(orders.primary_key, Some(vec![2, 1]), "in the order of the key");
    let stored: Vec<&str> = orders.stored_columns().map(|column| column.name.as_str()).collect();
    assert_eq!(stored, ["note", "number", "tenant_id", "placed", "total", "currency"]);
    assert_eq!(table(&catalogue, "app.log_lines").primary_key, None);
    // A dropped column leaves a hole in the numbers, not in the positions.
    let legacy: Vec<&str> = table(&catalogue, "app.legacy").columns.iter().map(|column| &*column.name).collect();
    assert_eq!(legacy, ["id", "account_id", "fresh"]);
    let types: Vec<&str> =
        table(&catalogue, "app.accounts").columns.iter().map(|column| column.type_name.as_str()).collect();
    assert_eq!(
        types[..8],
        ["bigint", "app.tenant_key", "text", "app.percent", "app.\"Mood\"", "app.address", "text[]", "integer[]"]
    );
    let of = |of: &str, wanted: &str| column(&catalogue, of, wanted);
    assert_eq!(of("app.accounts", "id").identity, Some(Identity::Always));
    assert_eq!(of("app.invoices", "id").identity, Some(Identity::ByDefault));
    assert_eq!(of("app.payments", "id").identity, None);
    assert_eq!(of("\"Audit Log\".\"Event/Entry\"", "a\"b").quoted, "\"a\"\"b\"");
    assert!(of("app.orders", "tax").is_generated);
    assert!(of("app.accounts", "tenant_id").is_collatable && !of("app.accounts", "id").is_collatable);
    assert!(of("app.documents", "content").is_large_object && !of("app.documents", "id").is_large_object);
    let positions = table(&catalogue, "app.positions");
    let unique: Vec<_> = positions.unique_keys.iter().map(|key| (&key.columns[..], key.is_deferrable)).collect();
    assert_eq!(unique, [(&[1, 3][..], false), (&[1, 2], true)]);
    assert!(table(&catalogue, "app.\"user\"").unique_keys.is_empty(), "over an expression, and partial");
}

#[test]
fn a_type_of_an_extension_is_compared_by_its_own_operator() {
    let Some(url) = nasty("a_type_of_an_extension_is_compared_by_its_own_operator") else { return };
    let catalogue = catalogue(&url);
    assert_eq!(column(&catalogue, "app.orders", "tenant_id").equals, "=");
    assert_eq!(column(&catalogue, "app.accounts", "tenant_id").equals, "=", "a domain over text");
    if catalogue.tables.contains_key(&name("app.extended")) {
        assert_eq!(column(&catalogue, "app.extended", "id").equals, "OPERATOR(hidden.=)");
    }
}

#[test]
fn foreign_keys_are_those_declared_on_whole_tables() {
    let Some(url) = nasty("foreign_keys_are_those_declared_on_whole_tables") else { return };
    let catalogue = catalogue(&url);
    let of = |child: &str| -> Vec<_> {
        let keys = catalogue.foreign_keys.iter().filter(|key| key.child == name(child));
        keys.map(|key| (key.parent.as_str(), key.child_columns.join(","), key.is_total, key.is_validated)).collect()
    };
    assert_eq!(of("app.order_lines"), [("app.orders", "order_tenant,order_number".to_owned(), true, true)]);
    assert_eq!(of("app.samples"), [("app.invoices", "invoice_id".to_owned(), true, true)]);
    assert_eq!(of("app.samples_0"), []);
    assert_eq!(of("app.legacy"), [("app.accounts", "account_id".to_owned(), true, false)]);
    let lines = catalogue.foreign_keys.iter().find(|key| key.child == name("app.order_lines")).unwrap();
    assert_eq!(lines.parent_columns, ["tenant_id", "number"]);
    let tail = catalogue.foreign_keys.iter().find(|key| key.child == name("\"Audit Log\".\"de\"\"tail.%2F\"")).unwrap();
    assert_eq!(tail.child_columns, ["\"Ref Tenant\"", "\"Ref.Select\""]);
}

#[test]
fn a_sequence_knows_the_column_it_belongs_to() {
    let Some(url) = nasty("a_sequence_knows_the_column_it_belongs_to") else { return };
    let catalogue = catalogue(&url);
    let of = |wanted: &str| catalogue.sequences.iter().find(|sequence| sequence.name == name(wanted)).unwrap();
    assert_eq!(of("app.payments_id_seq").owner, Some((name("app.payments"), 0)), "serial");
    assert_eq!(of("app.accounts_id_seq").owner, Some((name("app.accounts"), 0)), "identity");
    assert_eq!(of("app.measurements_id_seq").owner, Some((name("app.measurements"), 0)), "of the root");
    assert_eq!((of("app.ticket_numbers").owner.as_ref(), of("app.countdown").increment), (None, -1));
    assert_eq!(of("app.invoices_id_seq").increment, 10);
}

#[test]
fn the_server_says_which_database_it_is_and_what_the_role_may_do() {
    let Some(url) = nasty("the_server_says_which_database_it_is_and_what_the_role_may_do") else { return };
    let server = catalogue(&url).server;
    assert!(url.contains(&server.database) && server.version >= 140_000 && !server.is_standby);
    assert!(server.system_identifier.parse::<u64>().is_ok());
    assert_eq!((server.role.as_str(), server.is_superuser, server.bypasses_rls), ("postgres", true, true));
    assert_eq!(server.encoding, "UTF8");
    let role = format!("plain_{}", server.database);
    let grants = format!("CREATE ROLE {role} LOGIN; GRANT SELECT, DELETE ON app.orders TO {role}");
    run_sql(&url, &grants).unwrap();
    let plain = catalogue(&url.replace("postgres@", &format!("{role}@")));
    assert_eq!((plain.server.is_superuser, plain.server.bypasses_rls), (false, false));
    assert_eq!(table(&plain, "app.orders").privileges, [true, false, false, true]);
    assert_eq!(table(&plain, "app.invoices").privileges, [false; 4]);
}

#[test]
fn tables_that_are_temporary_or_staged_do_not_count() {
    let Some(url) = nasty("tables_that_are_temporary_or_staged_do_not_count") else { return };
    let before = catalogue(&url).tables.len();
    run_sql(
        &url,
        "CREATE SCHEMA lifeboat_stage_0123456789abcdef; CREATE TABLE lifeboat_stage_0123456789abcdef.t (a int)",
    )
    .unwrap();
    assert_eq!(catalogue(&url).tables.len(), before);
    run_sql(&url, "CREATE TABLE app.lifeboat_stage_0123456789abcdef (a int)").unwrap();
    assert_eq!(catalogue(&url).tables.len(), before + 1);
}
