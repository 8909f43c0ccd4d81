//! Rows and ids that nobody thought of, through the built binary: they come back, or it is said why not.

use std::collections::BTreeMap;

use lifeboat_testkit::postgres::{Postgres, query_text, run_sql};

use crate::shop::Shop;

pub const SMALL: &str = "
[sources.app]
kind = \"postgres\"
url = \"env:TEST_DATABASE_URL\"
tenancy = \"column\"
tenant_column = \"site_id\"
root = \"sites\"
";

/// A shop of two tables, whose sites' ids are of this type.
fn small(url: &str, id_type: &str) -> Shop {
    let tables = format!(
        "CREATE TABLE sites (id {id_type} PRIMARY KEY, name text);
         CREATE TABLE notes (id serial PRIMARY KEY, site_id {id_type} REFERENCES sites ON DELETE CASCADE, body text)"
    );
    run_sql(url, &tables).unwrap();
    Shop::of(url, SMALL)
}

/// Each site's notes, by its id.
fn notes(url: &str) -> BTreeMap<String, String> {
    let query = "SELECT site_id::text, string_agg(id || body, ';' ORDER BY id) FROM notes WHERE site_id IS NOT NULL \
                 GROUP BY site_id";
    let rows = query_text(url, query).unwrap().into_iter();
    rows.map(|row| (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default())).collect()
}

/// Deletes each site in turn and restores it; everybody else's notes stay as they are.
fn round_trip(shop: &Shop, ids: &[&str]) {
    let all = notes(&shop.url);
    for id in ids {
        let quoted = id.replace('\'', "''");
        shop.sql(&format!("DELETE FROM sites WHERE id::text = '{quoted}'"));
        let mut others = all.clone();
        assert!(others.remove(*id).is_some(), "{id}");
        assert_eq!(notes(&shop.url), others, "{id}");
        shop.ok(&["restore", "--yes", "--", id]);
        assert_eq!(notes(&shop.url), all, "{id}");
    }
    assert_eq!(shop.staging(), "");
}

#[test]
fn ids_with_quotes_slashes_and_signs_come_back_and_a_prefix_is_another_site() {
    let Some(server) = Postgres::shared_or_skip("ids_with_quotes") else { return };
    let shop = small(&server.fresh_database().unwrap(), "text");
    let ids = [
        "a",
        "ab",
        "A",
        "it's",
        "a/b",
        "a\\b",
        "..",
        "50%",
        "🦀",
        "\"quoted\"",
        "'; drop table notes; --",
        " lead",
        "$1",
        "{site}",
        "--help",
        "ÄÖ",
    ];
    for id in ids {
        let id = id.replace('\'', "''");
        shop.sql(&format!(
            "INSERT INTO sites VALUES ('{id}', 'x'); INSERT INTO notes (site_id, body) VALUES ('{id}', 'of {id}')"
        ));
    }
    shop.ok(&["backup", "--all"]);
    round_trip(&shop, &ids);
}

#[test]
fn sites_whose_ids_no_command_could_name_are_an_alarm_and_the_others_are_backed_up() {
    let Some(server) = Postgres::shared_or_skip("sites_whose_ids") else { return };
    let shop = small(&server.fresh_database().unwrap(), "text");
    shop.sql("INSERT INTO sites VALUES ('good', 'x'), (E'new\\nline', 'y'), ('', 'z')");
    shop.sql("INSERT INTO notes (site_id, body) SELECT id, name FROM sites");
    let said = shop.refused(&["backup", "--all"], 3, &["2 sites are in no snapshot: source=`app`", "other ids"]);
    assert!(said.out.contains("good  published"), "{}", said.out);
    let inspected =
        shop.refused(&["sources", "inspect", "app"], 10, &["2 sites in no snapshot", "give those sites other ids"]);
    assert!(inspected.out.contains(r"site in no snapshot: id=`new\nline`"), "{}", inspected.out);
    round_trip(&shop, &["good"]);
}

#[test]
fn integer_and_uuid_tenants_come_back_and_what_is_no_such_value_is_no_site() {
    let Some(server) = Postgres::shared_or_skip("integer_and_uuid_tenants") else { return };
    let cases = [
        ("bigint", ["7", "77"], ["007", "seven"]),
        ("uuid", ["00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-0000000000ab"], ["7", "AB"]),
    ];
    for (id_type, ids, wrong) in cases {
        let shop = small(&server.fresh_database().unwrap(), id_type);
        for id in ids {
            shop.sql(&format!(
                "INSERT INTO sites VALUES ('{id}', 'x'); INSERT INTO notes (site_id, body) VALUES ('{id}', 'n')"
            ));
        }
        shop.ok(&["backup", "--all"]);
        round_trip(&shop, &ids);
        for id in wrong {
            shop.refused(&["restore", id, "--yes"], 2, &["no such site"]);
            shop.refused(&["backup", id], 2, &["no such site"]);
        }
    }
}

#[test]
fn rows_of_no_site_are_counted_by_inspect_and_left_alone_by_a_restore() {
    let Some(server) = Postgres::shared_or_skip("rows_of_no_site") else { return };
    let shop = small(&server.fresh_database().unwrap(), "text");
    shop.sql(
        "INSERT INTO sites VALUES ('a', 'x'); INSERT INTO notes (site_id, body) VALUES ('a', 'n'), (NULL, 'nobody')",
    );
    shop.refused(&["sources", "inspect", "app"], 10, &["1 rows of no site"]);
    shop.ok(&["backup", "--all"]);
    round_trip(&shop, &["a"]);
    assert_eq!(shop.text("SELECT count(*) FROM notes WHERE site_id IS NULL"), "1");
}

#[test]
fn a_database_of_another_encoding_comes_back_and_bytes_without_one_are_refused() {
    let Some(server) = Postgres::shared_or_skip("a_database_of_another_encoding") else { return };
    let made = |encoding: &str| {
        let name = format!("encoded_{}", encoding.to_lowercase());
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        run_sql(&server.url("postgres"), &create).unwrap();
        small(&server.url(&name), "text")
    };
    let shop = made("LATIN1");
    shop.sql("INSERT INTO sites VALUES ('käse', 'x'); INSERT INTO notes (site_id, body) VALUES ('käse', 'größe ÿ')");
    shop.ok(&["backup", "--all"]);
    round_trip(&shop, &["käse"]);

    let shop = made("SQL_ASCII");
    shop.sql(
        "INSERT INTO sites VALUES ('plain', 'x'), ('bytes', 'y');
         INSERT INTO notes (site_id, body) VALUES ('plain', 'größe'), ('bytes', convert_from('\\x636166e9', 'SQL_ASCII'))",
    );
    shop.refused(&["backup", "--all"], 3, &["bytes", "SQL_ASCII takes any bytes"]);
    let without = "DELETE FROM notes WHERE site_id = 'bytes'";
    shop.sql(without);
    round_trip(&shop, &["plain"]);
}

#[test]
fn a_long_row_comes_back_and_one_too_long_for_the_server_is_said() {
    let Some(server) = Postgres::shared_or_skip("a_long_row") else { return };
    let shop = small(&server.fresh_database().unwrap(), "text");
    shop.sql(
        "INSERT INTO sites VALUES ('long', 'x'), ('short', 'y');
         INSERT INTO notes (site_id, body) SELECT 'long', repeat(E'line \\\\ of text\\n', 1000000);
         INSERT INTO notes (site_id, body) VALUES ('short', 'n')",
    );
    shop.ok(&["backup", "--all"]);
    let digest = "SELECT md5(string_agg(site_id || body, ';' ORDER BY id)) FROM notes";
    let before = shop.text(digest);
    shop.sql("DELETE FROM sites WHERE id = 'long'");
    shop.ok(&["restore", "long", "--yes"]);
    assert_eq!(shop.text(digest), before);
}
