use std::path::Path;

use lifeboat_engine::Ask;
use lifeboat_model::SourceName;

use super::*;
use crate::config::Config;

/// `[recovery]` is its ninth line.
const BEFORE: &str = "[repository]\nurl = \"file:///var/backups/lifeboat\"\nkey = \"file:lifeboat.key\"\n[sources.app]\n\
    kind = \"postgres\"\nurl = \"env:APP\"\ntenancy = \"column\"\ntenant_column = \"site_id\"\n[recovery]\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/lifeboat.toml"), text)
}

fn recovery(text: &str) -> RecoveryConfig {
    parse(&format!("{BEFORE}{text}")).unwrap().recovery
}

/// `line`: after `[recovery]`.
#[track_caller]
fn refused(text: &str, line: usize, message: &str, hint: &str) {
    let error = parse(&format!("{BEFORE}{text}")).expect_err("the configuration was accepted");
    assert!(error.to_string().starts_with(message), "{error}");
    assert_eq!(error.line, Some(line + 9), "{error}");
    assert!(error.hint.contains(hint), "{}", error.hint);
}

#[test]
fn nothing_is_done_and_nothing_bounded_by_default() {
    let recovery = recovery("");
    assert_eq!(recovery, RecoveryConfig::default());
    assert_eq!(recovery.around, Around::default());
    assert_eq!((recovery.bytes_per_second, recovery.database_load), (None, None));
}

#[test]
fn commands_and_limits_are_read() {
    let recovery = recovery(
        "before = [[\"m\", \"on\", \"{site}\"], [\"note\", \"--site={site}\"]]\nafter = [[\"reindex\", \"{site}\"]]\n\
         timeout = \"5m\"\nbytes_per_second = \"50MiB\"\ndatabase_load = 0\n",
    );
    assert_eq!(recovery.around.before, [vec!["m", "on", "{site}"], vec!["note", "--site={site}"]]);
    assert_eq!(recovery.around.after, [["reindex", "{site}"]]);
    assert_eq!(recovery.around.timeout, Duration::from_secs(300));
    assert_eq!((recovery.bytes_per_second, recovery.database_load), (Some(50 << 20), Some(0)));
}

#[test]
fn a_wrong_command_or_limit_is_told() {
    let list = "a list instead of a list of commands";
    refused("before = [\"m\", \"on\", \"{site}\"]\n", 1, list, "before = [[\"/usr/local/bin/maintenance\", \"on\"");
    refused("after = [[]]\n", 1, list, "\"off\"");
    refused("after = [[\"m\", 3]]\n", 1, list, "\"off\"");
    refused("after = \"m\"\n", 1, "a text of another form instead of a list of commands", "\"off\"");
    refused(
        "before = [[\"a\", \"{site}\"], [\"flush\", \"all\"]]\n",
        1,
        "a command does not say which site: key=`recovery.before`, command=`flush`",
        "put {site} where",
    );
    refused("befor = []\n", 1, "unknown key: key=`recovery.befor`", "did you mean `before`?");
    refused("timeout = \"2w\"\n", 1, "a recovery would stand still", "at most 1d");
    refused("bytes_per_second = \"1KiB\"\n", 1, "at this rate no site comes back", "at least 64KiB");
    refused("bytes_per_second = 3\n", 1, "an integer instead of a size", "50MiB");
    refused("database_load = -1\n", 1, "an integer instead of a whole number from 0", "database_load = 20");
    let files = BEFORE.replace(
        "kind = \"postgres\"\nurl = \"env:APP\"\ntenancy = \"column\"\ntenant_column = \"site_id\"",
        "kind = \"files\"\npath = \"/srv/{site}\"",
    );
    let error = parse(&format!("{files}database_load = 3\n")).unwrap_err();
    assert!(error.to_string().starts_with("there is no database server to ask"), "{error}");
    let error = parse(&format!("{files}[recovery.checks.a]\nsql = \"SELECT true\"\n")).unwrap_err();
    assert!(error.hint.contains("only a source of kind \"postgres\""), "{error}: {}", error.hint);
}

#[test]
fn checks_are_read_in_their_order() {
    let around = recovery(
        "timeout = \"9s\"\n[recovery.checks.users]\nsql = \"SELECT count(*) FROM users WHERE site_id = $1\"\n\
         source = \"app\"\nexpect = 3\n[recovery.checks.alive]\nsql = \"SELECT true OR $1 = ''\"\ntimeout = \"2s\"\n\
         [recovery.checks.smoke-1]\ncommand = [\"smoke\", \"{site}\"]\n[recovery.checks.page]\n\
         http = \"http://app.example/{site}\"\n[recovery.checks.gone]\nhttp = \"https://{site}.app.example\"\n\
         status = 410\ncontains = \"gone\"\n",
    )
    .around;
    let (source, url) = (SourceName::new("app").unwrap(), "http://app.example/{site}".to_owned());
    let sql = |sql: &str, expect| Ask::Sql { source: source.clone(), sql: sql.to_owned(), expect };
    let asks: Vec<_> = around.checks.iter().map(|check| (check.name.as_str(), check.ask.clone())).collect();
    assert_eq!(
        asks,
        [
            ("users", sql("SELECT count(*) FROM users WHERE site_id = $1", Some(3))),
            ("alive", sql("SELECT true OR $1 = ''", None)),
            ("smoke-1", Ask::Command(vec!["smoke".into(), "{site}".into()])),
            ("page", Ask::Http { url, status: 200, contains: None }),
            (
                "gone",
                Ask::Http { url: "https://{site}.app.example".into(), status: 410, contains: Some("gone".into()) }
            ),
        ]
    );
    let seconds: Vec<u64> = around.checks.iter().map(|check| check.timeout.as_secs()).collect();
    assert_eq!(seconds, [9, 2, 9, 9, 9]);
}

#[test]
fn a_wrong_check_is_told() {
    let check = |keys: &str, line: usize, message: &str, hint: &str| {
        refused(&format!("[recovery.checks.a]\n{keys}\n"), line, message, hint);
    };
    check("", 1, "the check does not say what is asked: key=`recovery.checks.a`", "write one of `sql = ");
    check("sql = \"x\"\nhttp = \"y\"", 1, "a check asks one thing", "another check");
    check("slq = \"x\"", 1, "the check does not say what is asked", "write one of");
    check("sql = \"SELECT true\"", 2, "the statement does not say which site: key=`recovery.checks.a.sql`", "put $1");
    check("sql = \"SELECT $1\"\nsource = \"ap\"", 3, "no PostgreSQL source of this name", "one of `app`");
    check("sql = \"SELECT $1\"\nexpect = true", 3, "true or false instead of a whole number", "expect = 0");
    check("sql = \"SELECT $1\"\nstatus = 200", 3, "unknown key: key=`recovery.checks.a.status`", "");
    check("command = []", 2, "a list instead of a list of a program", "smoke-test");
    check("command = [\"x\"]", 2, "the check does not say which site", "put {site}");
    check("command = [\"x\", \"{site}\"]\nexpect = 1", 3, "unknown key", "");
    check("http = \"app.example/{site}\"", 2, "a text of another form instead of an address", "https://");
    check("http = \"https:///{site}\"", 2, "a text of another form instead of an address", "https://");
    check("http = \"https://app.example/a b/{site}\"", 2, "a text of another form instead of an address", "https://");
    check("http = \"https://app.example/\"", 2, "the check does not say which site", "put {site}");
    check("http = \"https://me:secret@app.example/{site}\"", 2, "credentials do not belong", "netrc");
    check("http = \"https://a/{site}\"\nstatus = 99", 3, "so many are not possible", "from 100 to 599");
    check("http = \"https://a/{site}\"\ncontains = \"\"", 3, "a text of another form", "contains");
    refused("[recovery.checks.\"a b\"]\nsql = \"x\"\n", 1, "a check is called by letters", "login");
}
