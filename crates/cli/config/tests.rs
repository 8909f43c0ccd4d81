//! What a tired person sees for every kind of mistake, and what a right file means.

mod signals;

use super::*;

const FILE: &str = "/etc/lifeboat.toml";
const REPOSITORY: &str = "[repository]\nurl = \"file:///var/backups/lifeboat\"\nkey = \"file:lifeboat.key\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new(FILE), text)
}

fn with_repository(rest: &str) -> Result<Config, ConfigError> {
    parse(&format!("{REPOSITORY}{rest}"))
}

#[track_caller]
fn refused(got: Result<Config, ConfigError>, line: usize, message: &str, hint: &str) {
    let error = got.expect_err("the configuration was accepted");
    assert_eq!(error.to_string(), format!("{message}: file=`{FILE}`, line=`{line}`"));
    assert_eq!(error.hint, hint);
    assert_eq!(error.fault, lifeboat_model::Fault::Usage);
}

#[test]
fn a_wrong_repository_is_told() {
    let check = |text: &str, line: usize, message: &str, hint: &str| refused(parse(text), line, message, hint);
    check("", 1, "a section is missing: section=`repository`", "write the section [repository] with url and key");
    check(
        "[repository]\nkey = \"file:k\"\n",
        1,
        "a key is missing: key=`repository.url`",
        "write `url = \"file:///var/backups/lifeboat\"` in [repository]",
    );
    check("[repository]\nulr = \"file:///x\"\n", 2, "unknown key: key=`repository.ulr`", "did you mean `url`?");
    check("[repositroy]\nurl = \"file:///x\"\n", 1, "unknown key: key=`repositroy`", "did you mean `repository`?");
    check(
        "[repository]\nurl = \"file:///x\"\nkey = \"file:k\"\ncolour = 1\n",
        4,
        "unknown key: key=`repository.colour`",
        "known keys in [repository]: url, key, catalog",
    );
    check(
        "repository = 3\n",
        1,
        "an integer instead of a section: key=`repository`",
        "write it as a section: [repository]",
    );
    let url = |url: &str| parse(&format!("[repository]\nurl = {url}\nkey = \"file:k\"\n"));
    refused(
        url("7"),
        2,
        "an integer instead of an address: key=`repository.url`",
        "for example `url = \"file:///var/backups/lifeboat\"`",
    );
    let bad = |text: &str, detail: &str, hint: &str| {
        refused(url(text), 2, &format!("not an address of a repository, {detail}: key=`repository.url`"), hint);
    };
    bad("\"/var/backups\"", "it has no scheme", "write file:///var/backups");
    bad("\"file://\"", "the path is missing", "write file:///absolute/path");
    bad(
        "\"file://backups\"",
        "the path is relative: path=`backups`",
        "a schedule runs elsewhere than you do, so write the whole path: file:///absolute/path/to/backups",
    );
    bad(
        "\"s3://AKIA:secret@bucket/p\"",
        "credentials do not belong into the address",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and write s3://bucket/prefix",
    );
    bad("\"s3:///p\"", "the bucket is missing", "write s3://bucket/prefix");
    bad("\"s3://bucket/p?regoin=x\"", "unknown option: option=`regoin`", "did you mean `region`?");
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let secret = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";
    for value in [format!("\"{secret}\""), format!("\"base64:{secret}\""), format!("\"env:{secret}\"")] {
        let error = parse(&format!("[repository]\nurl = \"file:///x\"\nkey = {value}\n")).unwrap_err();
        assert_eq!(error.line, Some(3));
        assert!(error.to_string().contains("key=`repository.key`"), "{error}");
        assert!(!format!("{error} {}", error.hint).contains(secret), "{error}");
    }
    refused(
        parse(&format!("[repository]\nurl = \"file:///x\"\nkey = \"{secret}\"\n")),
        3,
        "a secret must not stand in the configuration: key=`repository.key`",
        "put the key into a file of mode 0600 and write key = \"file:lifeboat.key\", or key = \"env:NAME\"",
    );
    refused(
        parse("[repository]\nurl = \"file:///x\"\nkey = \"file:\"\n"),
        3,
        "`file:` names no file: key=`repository.key`",
        "write key = \"file:lifeboat.key\"",
    );
    // Broken text near a secret is not shown either.
    let error = parse(&format!("[repository]\nkey = {secret}\n")).unwrap_err();
    assert!(!error.to_string().contains(secret), "{error}");
}

#[test]
fn broken_toml_is_told_by_its_line() {
    let check = |text: &str, line: usize| {
        let error = parse(text).unwrap_err();
        assert!(error.detail.starts_with("not valid TOML: "), "{error}");
        assert_eq!((error.line, error.to_string().lines().count()), (Some(line), 1), "{error}");
    };
    check("[repository]\nurl = file:///x\n", 2);
    check("[repository\n", 1);
    check("[repository]\nurl = \"a\"\nurl = \"b\"\n", 3);
    check("a = \"x\n", 1);
}

#[test]
fn a_wrong_source_is_told() {
    let check = |text: &str, line: usize, message: &str, hint: &str| {
        // Lines are counted behind the repository's three.
        refused(with_repository(text), line + 3, message, hint);
    };
    check(
        "[sources.Notes]\nkind = \"sqlite\"\n",
        1,
        "a source name is lower-case letters, digits, `-` and `_`, starting with a letter or digit: name=`Notes`",
        "the name is the source's identity in the repository, e.g. [sources.notes]",
    );
    check("[sources.a]\n", 1, "a key is missing: key=`sources.a.kind`", "write `kind = \"files\"` in [sources.a]");
    check(
        "[sources.a]\nkind = \"file\"\n",
        2,
        "no such kind of source: kind=`file`, key=`sources.a.kind`",
        "did you mean `files`?",
    );
    check(
        "[sources.a]\nkind = \"mysql\"\n",
        2,
        "no such kind of source: kind=`mysql`, key=`sources.a.kind`",
        "use files (a directory a site), sqlite (a database file a site) or postgres (a database of many)",
    );
    for kind in ["objects", "command"] {
        check(
            &format!("[sources.a]\nkind = \"{kind}\"\nurl = \"env:X\"\ntenancy = \"column\"\n"),
            2,
            &format!("not in this version: kind=`{kind}`, key=`sources.a.kind`"),
            "this version knows the kinds files, sqlite and postgres; take the section out to go on without it",
        );
    }
    let path = |path: &str| format!("[sources.a]\nkind = \"files\"\npath = {path}\n");
    check(
        &path("\"/srv/acme\""),
        3,
        "the path does not say where the site id goes: key=`sources.a.path`",
        "put {site} in it, for example `path = \"/srv/sites/{site}/attachments\"`",
    );
    check(
        &path("\"/srv/{site}/{tenant}\""),
        3,
        "the path has braces that are not {site}: key=`sources.a.path`",
        "only {site} is filled in, for example `path = \"/srv/sites/{site}/attachments\"`",
    );
    check(
        &path("\"/srv/{site}/../x\""),
        3,
        "the path climbs with `..`: key=`sources.a.path`",
        "write the path without `..`",
    );
    check(
        &path("[\"/srv/{site}\"]"),
        3,
        "a list instead of a path with {site} in it: key=`sources.a.path`",
        "for example `path = \"/srv/sites/{site}/attachments\"`",
    );
    check(
        "[sources.a]\nkind = \"files\"\npath = \"/srv/{site}\"\nexcludes = []\n",
        4,
        "unknown key: key=`sources.a.excludes`",
        "did you mean `exclude`?",
    );
    check(
        "[sources.a]\nkind = \"files\"\npath = \"/srv/{site}\"\nexclude = \"*.tmp\"\n",
        4,
        "a text of another form instead of a list of paths inside a site's directory: key=`sources.a.exclude`",
        "for example `exclude = [\"cache\", \"tmp/previews\"]`",
    );
    check(
        "[sources.a]\nkind = \"sqlite\"\npath = \"/srv/{site}.db\"\nexclude = [\"x\"]\n",
        4,
        "a sqlite source has nothing to exclude: key=`sources.a.exclude`",
        "take the key out; it belongs to sources of kind \"files\"",
    );
    check(
        "[sources.a]\nkind = \"files\"\npath = \"/a/{site}\"\nwas = \"b\"\n[sources.b]\nkind = \"files\"\npath = \"/b/{site}\"\n",
        1,
        "a former name is taken by another source: key=`sources.a.was`, name=`b`",
        "a name stands for one source for ever: take `was` out, or name the other source differently",
    );
}

#[test]
fn wrong_hooks_and_policies_are_told() {
    let check = |text: &str, line: usize, message: &str, hint: &str| {
        refused(with_repository(text), line + 3, message, hint);
    };
    check(
        "[hooks]\nfreeze = \"maintenance on\"\n",
        2,
        "a text of another form instead of a list of a program and its arguments (no shell): key=`hooks.freeze`",
        "for example `freeze = [\"/usr/local/bin/maintenance\", \"on\", \"{site}\"]`",
    );
    check(
        "[hooks]\nfreeze = [\"f\"]\n",
        2,
        "the hook does not say which site: key=`hooks.freeze`",
        "put {site} where the site id goes, for example `freeze = [\"/usr/local/bin/maintenance\", \"on\", \"{site}\"]`",
    );
    check(
        "[hooks]\nfreeze = [\"f\", \"{site}\"]\n",
        1,
        "freeze and thaw come together: key=`hooks.thaw`",
        "write thaw = [\"/usr/local/bin/maintenance\", \"off\", \"{site}\"]",
    );
    check("[hooks]\nthwa = []\n", 2, "unknown key: key=`hooks.thwa`", "did you mean `thaw`?");
    let duration = "a duration (a whole number from 1 on and s, m, h, d or w)";
    check(
        "[policy]\nrpo = 24\n",
        2,
        &format!("an integer instead of {duration}: key=`policy.rpo`"),
        "for example `rpo = \"24h\"`",
    );
    check(
        "[policy]\nundo = \"two weeks\"\n",
        2,
        &format!("a text of another form instead of {duration}: key=`policy.undo`"),
        "for example `undo = \"14d\"`",
    );
    check(
        "[policy]\nshrink_limit = \"0%\"\n",
        2,
        "a text of another form instead of a share (a whole number from 1 to 100 and %): key=`policy.shrink_limit`",
        "for example `shrink_limit = \"30%\"`",
    );
    check(
        "[policy]\nshrink_limit = 0.3\n",
        2,
        "a fraction instead of a share (a whole number from 1 to 100 and %): key=`policy.shrink_limit`",
        "for example `shrink_limit = \"30%\"`",
    );
    check(
        "[policy]\ncapture = \"yes\"\n",
        2,
        "a text of another form instead of true or false: key=`policy.capture`",
        "for example `capture = true`",
    );
    check(
        "[policy]\nkeep = { daily = -1 }\n",
        2,
        "an integer instead of a whole number from 0: key=`policy.keep.daily`",
        "for example `daily = 14`",
    );
    check("[policy]\nkeep = { dayly = 1 }\n", 2, "unknown key: key=`policy.keep.dayly`", "did you mean `daily`?");
    check(
        "[policy]\nkeep = 14\n",
        2,
        "an integer instead of a section: key=`policy.keep`",
        "write it as a section: [policy.keep]",
    );
    check(
        "[policy]\nschedule = \"nightly\"\n",
        2,
        "not a cron schedule of five fields, minute, hour, day, month and weekday are wanted: schedule=`nightly`, key=`policy.schedule`",
        "minute, hour, day of the month, month and weekday, for example `schedule = \"0 2 * * *\"` for every night at two",
    );
    check(
        "[policy]\nschedule = \"0 2 31 2 *\"\n",
        2,
        "the schedule never fires: schedule=`0 2 31 2 *`, key=`policy.schedule`",
        "minute, hour, day of the month, month and weekday, for example `schedule = \"0 2 * * *\"` for every night at two",
    );
    check(
        "[policies.gold]\nsites = [\"*\"]\ntimezone = \"Europe/Berln\"\n",
        3,
        "no such time zone: key=`policies.gold.timezone`, timezone=`Europe/Berln`",
        "did you mean `Europe/Berlin`, `Europe/Dublin` or `Europe/Belgrade`?",
    );
    check(
        "[policy]\nretention = \"1d\"\n",
        2,
        "unknown key: key=`policy.retention`",
        "known keys in [policy]: schedule, timezone, spread, rpo, rto, window, undo, undelete, capture, keep, shrink_limit",
    );
    check(
        "[policies.gold]\nrpo = \"1h\"\n",
        1,
        "a key is missing: key=`policies.gold.sites`",
        "write `sites = [\"acme\", \"tier-1-*\"]` in [policies.gold]",
    );
    check(
        "[policies.gold]\nsites = []\n",
        2,
        "the policy matches no site: key=`policies.gold.sites`",
        "name at least one, for example `sites = [\"acme\", \"tier-1-*\"]`",
    );
}

#[test]
fn a_whole_file_means_what_it_says() {
    let config = with_repository(
        r#"
        catalog = "cache"
        [sources.notes]
        kind = "sqlite"
        path = "data/{site}/notes.db"
        [sources.attachments]
        kind = "files"
        path = "/srv/sites/{site}/attachments/"
        exclude = ["tmp", "cache/**"]
        was = "uploads"
        [hooks]
        freeze = ["/usr/local/bin/maintenance", "on", "{site}"]
        thaw = ["/usr/local/bin/maintenance", "off", "{site}"]
        timeout = "5m"
        [policy]
        schedule = "0 2 * * *"
        timezone = "Europe/Berlin"
        rpo = "12h"
        capture = true
        keep = { daily = 7 }
        shrink_limit = "50%"
        [policies.gold]
        sites = ["acme", "tier-1-*"]
        rpo = "1h"
        [policies.all]
        sites = ["*"]
        undo = "1d"
        "#,
    )
    .unwrap();
    assert_eq!(config.repository.key, KeyRef::File("/etc/lifeboat.key".into()));
    assert_eq!(config.repository.catalog, Path::new("/etc/cache"));
    assert_eq!(config.repository.directory.as_deref(), Some(Path::new("/var/backups/lifeboat")));
    let names: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["notes", "attachments"], "the order of the file");
    assert_eq!(config.sources[0].path(), Some("/etc/data/{site}/notes.db"));
    assert_eq!(config.sources[1].path(), Some("/srv/sites/{site}/attachments"));
    assert_eq!(config.sources[1].was.as_ref().map(SourceName::as_str), Some("uploads"));
    assert_eq!(config.hooks.as_ref().unwrap().timeout.as_secs(), 300);
    assert_eq!((config.policy.keep.daily, config.policy.keep.weekly), (7, 0), "keep is taken as a whole");
    assert_eq!(config.policy.shrink_limit, 50);
    let notes = ["a source's former name is not followed in this version: key=`sources.attachments.was`"];
    assert_eq!(config.notes, notes);
    let policy = |site: &str| config.policy_of(&SiteId::new(site).unwrap());
    assert_eq!((policy("acme").rpo.as_secs(), policy("acme").shrink_limit), (3600, 50));
    assert_eq!((policy("tier-1-x").rpo.as_secs(), policy("tier-1-x").keep.undo.as_secs()), (3600, 14 * 86_400));
    assert_eq!((policy("globex").rpo.as_secs(), policy("globex").keep.undo.as_secs()), (12 * 3600, 86_400));
    let config = with_repository("").unwrap();
    assert_eq!((config.policy, config.hooks, config.sources.len()), (Policy::default(), None, 0));
    assert_eq!(config.repository.catalog, Path::new("/etc/lifeboat.catalog"));
}

#[test]
fn files_are_scanned_every_five_minutes_unless_it_is_off_or_nobody_asks() {
    let files = "[sources.files]\nkind = \"files\"\npath = \"/srv/{site}/files\"\n";
    let check = |capture: bool, settings: &str, want: Option<u64>| {
        let text = format!("{files}[policy]\ncapture = {capture}\n[capture]\n{settings}");
        let config = with_repository(&text).unwrap();
        let every = config.scanned().next().and(config.capture.scan).map(|every| every.as_secs());
        assert_eq!(every, want, "{text}");
        assert_eq!(config.notes.is_empty(), want.is_some() || !capture, "{:?}", config.notes);
    };
    check(true, "", Some(300));
    check(true, "scan = \"1h\"\n", Some(3600));
    check(true, "scan = \"off\"\n", None);
    check(true, "scan = \"0\"\n", None);
    check(false, "", None);
    assert!(!with_repository("[capture]\nwatch = false\n").unwrap().capture.watch);
    refused(
        with_repository("[capture]\nscan = \"2d\"\n"),
        5,
        "files are scanned between two nights, or not at all: key=`capture.scan`",
        "at most 1d, for example `scan = \"5m\"`; \"off\" for never",
    );
}

#[test]
fn a_database_inside_a_tree_is_left_out_of_the_files() {
    let source =
        |name: &str, kind: &str, path: &str| format!("[sources.{name}]\nkind = \"{kind}\"\npath = \"{path}\"\n");
    let two = |a: &str, b: &str| with_repository(&format!("{a}{b}"));
    let config =
        two(&source("files", "files", "/srv/{site}"), &source("db", "sqlite", "/srv/{site}/data/{site}.db")).unwrap();
    let SourceSettings::Files(files) = &config.sources[0].settings else { panic!("not files") };
    assert_eq!(files.databases.len(), 1);
    assert_eq!((files.databases[0].source.as_str(), files.databases[0].path.as_str()), ("db", "data/{site}.db"));
    // Beside, not inside.
    let config = two(&source("files", "files", "/srv/{site}"), &source("db", "sqlite", "/srv/{site}.db")).unwrap();
    let SourceSettings::Files(files) = &config.sources[0].settings else { panic!("not files") };
    assert_eq!(files.databases, []);
    refused(
        two(&source("a", "files", "/srv/{site}"), &source("b", "files", "/srv/{site}/b")),
        7,
        "a source lies inside another: source=`b`, inside=`a`",
        "write `exclude = [\"b\"]` in [sources.a], or take one of them out",
    );
    refused(
        two(&source("a", "sqlite", "/srv/{site}"), &source("b", "files", "/srv/{site}")),
        7,
        "two sources have the same path: source=`a`, other=`b`",
        "take one of them out: a restore of one would undo the other",
    );
    let excluded = format!("{}exclude = [\"b\"]\n", source("a", "files", "/srv/{site}"));
    assert!(two(&excluded, &source("b", "files", "/srv/{site}/b")).is_ok());
}

#[test]
fn the_repository_is_never_taken_for_a_site() {
    let source = "[sources.a]\nkind = \"files\"\npath = \"/var/{site}\"\n";
    refused(
        with_repository(source),
        4,
        "the repository lies inside a site of a source: source=`a`",
        "move the repository, or give the source a path that does not match it",
    );
    let text =
        "[repository]\nurl = \"s3://bucket/p\"\nkey = \"env:K\"\n[sources.a]\nkind = \"files\"\npath = \"{site}\"\n";
    refused(
        parse(text),
        4,
        "the catalog lies inside a site of a source: source=`a`",
        "move the catalog, or give the source a path that does not match it",
    );
}

#[test]
fn no_text_makes_the_reader_panic() {
    let whole = format!("{REPOSITORY}[sources.a]\nkind = \"files\"\npath = \"/x/{{site}}\"\n[policy]\nrpo = \"1h\"\n");
    for at in 0..whole.len() {
        let _ = parse(&whole[..at]);
        for byte in ["\"", "[", "=", "\n", "é", "{", "0"] {
            let mut text = whole.clone();
            text.replace_range(at..=at, byte);
            let _ = parse(&text);
        }
    }
    let deep = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(parse(&deep).is_err());
}

#[test]
fn the_example_is_read_with_every_setting_on_and_off() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/example.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.sources.len(), 2);
    assert_eq!(config.notes, Vec::<String>::new());
    // A setting that is off is a `#` without a space.
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    let all = text.lines().map(on).collect::<Vec<_>>().join("\n");
    let config = parse(&all).unwrap();
    assert!(config.hooks.is_some() && config.policies.len() == 1);
}

const POSTGRES: &str = r#"
[sources.app]
kind = "postgres"
url = "env:APP_DATABASE_URL"
tenancy = "column"
tenant_column = "site_id"
root = "sites"
shared = ["countries", "app.plans"]
ignored = ["job_queue"]
[sources.app.tables."audit.events"]
tenant_column = "org_id"
[sources.app.tables.comments]
via = "comments.issue_id -> issues.id"
[sources.app.tables.'app."Lines"']
via = '("Site", number) -> app.orders.(site, number)'
[sources.app.tables.likes]
via = { type = "kind", id = "ref", map = { Issue = "issues.id", "App::Note" = "app.notes.no" } }
"#;

#[test]
fn a_postgres_source_says_how_it_tells_sites_apart() {
    use lifeboat_source::postgres::{Reference, TableName, TableRule, Tenancy};
    let config = with_repository(POSTGRES).unwrap();
    let SourceSettings::Postgres(app) = &config.sources[0].settings else { panic!("not postgres") };
    let name = |name: &str| TableName::quoted(name);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!((&app.url, app.tenancy), (&KeyRef::Env("APP_DATABASE_URL".into()), Tenancy::Column));
    assert_eq!((app.tenant_column.as_deref(), app.root.as_ref()), (Some("site_id"), Some(&name("sites"))));
    assert_eq!((&app.shared, &app.ignored), (&vec![name("countries"), name("app.plans")], &vec![name("job_queue")]));
    assert_eq!(app.tables[&name("audit.events")], TableRule::TenantColumn("org_id".into()));
    let via = |child: &[&str], parent: &str, columns: &[&str]| {
        TableRule::Via(Reference { child_columns: texts(child), parent: name(parent), parent_columns: texts(columns) })
    };
    assert_eq!(app.tables[&name("comments")], via(&["issue_id"], "issues", &["id"]));
    assert_eq!(app.tables[&name("app.\"Lines\"")], via(&["\"Site\"", "number"], "app.orders", &["site", "number"]));
    let map = [("App::Note", "app.notes", "no"), ("Issue", "issues", "id")];
    let map = map.map(|(kind, table, column)| (kind.to_owned(), (name(table), column.to_owned())));
    let likes = TableRule::Polymorphic { kind: "kind".into(), id: "ref".into(), map: map.into() };
    assert_eq!(app.tables[&name("likes")], likes);
    assert_eq!((config.sources[0].path(), config.sources[0].place()), (None, "env:APP_DATABASE_URL".to_owned()));
}

#[test]
fn a_site_may_have_a_schema_or_a_database_of_its_own() {
    use lifeboat_source::postgres::{NamePattern, Tenancy};
    let read = |text: &str| {
        with_repository(&format!("[sources.app]\nkind = \"postgres\"\nurl = \"env:X\"\n{text}")).map(|mut config| {
            let SourceSettings::Postgres(app) = config.sources.remove(0).settings else { panic!("not postgres") };
            (app.tenancy, app.names, app.not_sites)
        })
    };
    let public = vec!["public".to_owned()];
    let named = || NamePattern::parse("tenant_{site}").unwrap();
    assert_eq!(read("tenancy = \"schema\"").unwrap(), (Tenancy::Schema, NamePattern::default(), public.clone()));
    assert_eq!(read("tenancy = \"schema\"\nschema = \"tenant_{site}\"").unwrap(), (Tenancy::Schema, named(), public));
    assert_eq!(
        read("tenancy = \"database\"\ndatabase = \"tenant_{site}\"\nnot_sites = [\"a\"]").unwrap(),
        (Tenancy::Database, named(), vec!["a".to_owned()])
    );
    let error = read("tenancy = \"schema\"\nschema = \"tenant\"").unwrap_err();
    assert!(error.detail.contains("{site}") && error.hint.contains("tenant_{site}"), "{error}: {}", error.hint);
}

#[test]
fn a_wrong_postgres_source_is_told() {
    let check = |from: &str, to: &str, message: &str, hint: &str| {
        assert!(POSTGRES.contains(from), "{from}");
        let error = with_repository(&POSTGRES.replacen(from, to, 1)).unwrap_err();
        assert!(error.detail.contains(message) && error.hint.contains(hint), "{error}: {}", error.hint);
        assert!(!error.detail.contains("s3cret") && !error.hint.contains("s3cret"));
    };
    check("env:APP_DATABASE_URL", "postgres://me:s3cret@db/app", "a secret must not stand", "url = \"env:NAME\"");
    check(
        "\"column\"",
        "\"schema\"",
        "means nothing with tenancy = \"schema\": key=`sources.app.tenant_column`",
        "take it",
    );
    check("\"column\"", "\"column\"\nschema = \"t_{site}\"", "means nothing with tenancy = \"column\"", "take it");
    check("\"column\"", "\"columns\"", "instead of column, schema or database", "column");
    check("tenant_column", "tenant_colum", "unknown key: key=`sources.app.tenant_colum`", "tenant_column");
    check("tenant_column = \"org_id\"", "", "nothing is said of the table", "tenant_column");
    check("tenant_column = \"org_id\"", "tenant = \"org_id\"", "unknown key", "tenant_column");
    check("\"org_id\"", "\"org_id\"\nvia = \"a -> b.c\"", "one way to its site", "either");
    check("comments.issue_id ->", "issues.issue_id ->", "does not begin at its own table", "comments");
    check("-> issues.id", "-> id", "instead of a reference", "comments.issue_id");
    check("issues.id\", \"App", "issues\", \"App", "instead of a table and its column", "issues.id");
    check("type = \"kind\"", "kind = \"kind\"", "a key is missing", "type");
    check("[\"job_queue\"]", "\"job_queue\"", "instead of a list of tables", "countries");
}

#[test]
fn what_may_be_kept_on_this_host_has_a_size_or_is_nothing() {
    let limit = |text: &str| with_repository(&format!("[capture]\nspill_limit = \"{text}\"\n"));
    assert_eq!(limit("0").unwrap().capture.spill_limit_bytes, 0);
    assert_eq!(limit("2GiB").unwrap().capture.spill_limit_bytes, 2 << 30);
    assert_eq!(with_repository("").unwrap().capture.spill_limit_bytes, 4 << 30);
    refused(
        limit("7"),
        5,
        "a text of another form instead of a size (a whole number and KiB, MiB, GiB or TiB), or \"0\": key=`capture.spill_limit`",
        "for example `spill_limit = \"4GiB\"`",
    );
}

#[test]
fn limits_differ_from_the_defaults_only_where_they_are_said() {
    let limits = with_repository("[limits]\nworkers = 7\nrequests = 5\nmemory = \"256MiB\"\n").unwrap().limits;
    let (fetch, ingest, store) = (limits.fetch(), limits.ingest(), limits.store());
    assert_eq!((fetch.workers, fetch.requests_max, fetch.bytes_in_flight_max), (7, 5, 256 << 20));
    assert_eq!((ingest.workers, store.connections_max, store.bytes_max), (7, 5, 256 << 20));
    let usual = with_repository("").unwrap().limits;
    assert_eq!(usual, LimitsConfig::default());
    assert_eq!(usual.fetch().bytes_in_flight_max, lifeboat_repo::FetchLimits::default().bytes_in_flight_max);
    refused(
        with_repository("[limits]\nworkers = 0\n"),
        5,
        "so many are not possible: key=`limits.workers`, count=`0`",
        "from 1 to 256, for example `workers = 4`",
    );
    refused(
        with_repository("[limits]\nmemory = \"1MiB\"\n"),
        5,
        "with less a restore cannot read ahead, and with more it gains nothing: key=`limits.memory`",
        "from 8MiB to 64GiB, for example `memory = \"48MiB\"`",
    );
}
