//! Reports of a small recovery whose sites and messages are as hostile as ids may be.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_control::recovery::Runner;
use lifeboat_model::*;

use super::*;

const SECOND: i64 = 1_000_000;
/// The recovery begins at 2022-04-05T07:38:00Z.
const BEGIN: i64 = 1_649_144_280 * SECOND;
const SCRIPT: &str = "<script>alert(1)</script>";
const QUOTES: &str = "\"'><img src=x onerror=alert(1)>";
const FORMULA: &str = "=cmd()|'/c calc'!A0";
const COMMAS: &str = "a,\"b\"; \u{202e}gpj.exe";
const PLAIN: &str = "acme";

fn site(id: &str) -> SiteId {
    SiteId::new(id).unwrap()
}

fn writer() -> WriterIdentity {
    WriterIdentity { host: "<b>db-3</b>".into(), machine: "m".into(), boot: "b".into(), pid: 4711, started: 1 }
}

fn plan() -> RecoveryPlan {
    let case = |id| CasePlan {
        site: site(id),
        priority: 100,
        deadline: (id == PLAIN).then_some(Timestamp(BEGIN + 5 * SECOND)),
        aim: match id {
            QUOTES => CaseAim::Point(PointInTime::BeforeNote("<i>deploy</i>".into())),
            _ => CaseAim::Point(PointInTime::Snapshot(SnapshotId([0x51; 8]))),
        },
        snapshot: SnapshotId([0x51; 8]),
        at: Timestamp(BEGIN - 3_600 * SECOND),
        hash: "0011223344556677".into(),
        conflicts: if id == PLAIN { vec!["app: <u>taken</u>".into()] } else { Vec::new() },
        work: CaseWork { write_bytes: 1_000, ..CaseWork::default() },
    };
    RecoveryPlan {
        id: RecoveryId([0x71; 8]),
        made_at: Timestamp(BEGIN - 60 * SECOND),
        made_by: writer(),
        asked: "recover plan --sites '<list>' --at \"1h\" --expect 6".into(),
        undoes: None,
        rules: RecoveryRules {
            canaries: 1,
            halt_percent: 100,
            keeps_later: false,
            verifies_read: false,
            skips_damaged: false,
        },
        cases: [PLAIN, SCRIPT, QUOTES, FORMULA, COMMAS, "+waiting"].map(case).into(),
    }
}

fn restored(id: &str, passed: bool) -> RecoveryEvent {
    let receipt = Receipt {
        restore: RestoreId([0x5a; 8]),
        site: site(id),
        at: Timestamp(BEGIN - 3_600 * SECOND),
        snapshot: SnapshotId([0x51; 8]),
        parts: vec![PartReceipt {
            source: SourceName::new("app").unwrap(),
            entries: 3,
            rows: 12_345,
            files: 7,
            removed: 1,
            kept: 0,
            bytes: 5_000_000,
            digest_ok: true,
            transaction: None,
        }],
        bytes_read: 2_000_000,
        requests: 14,
        duration: Duration::from_millis(1_500),
        checks: vec![
            Check { name: "app: rows".into(), passed: true, detail: "12345 of 12345".into() },
            Check { name: "<check>".into(), passed, detail: "said \"no\"\nand </dd>".into() },
        ],
        undo: passed.then_some(SnapshotId([0x52; 8])),
    };
    RecoveryEvent::CaseRestored { site: site(id), receipt: Arc::new(SignedReceipt { receipt, signature: vec![7; 64] }) }
}

/// A neighbour with a hostile id was touched, another one changed.
fn proof() -> BystanderProof {
    let source = || SourceName::new("app").unwrap();
    BystanderProof {
        proven_at: Timestamp(BEGIN + 25 * SECOND),
        others: 4_117,
        looked: 20,
        equal: 18,
        own_users: 0,
        not_proven: 1,
        not_comparable: 0,
        transactions: 2,
        transactions_logged: 2,
        must_be_quiet: false,
        notes: vec![BystanderNote { site: site("<i>beta</i>"), source: source(), detail: "<u>changed</u>".into() }],
        touched: vec![Touched {
            site: site("<b onclick=alert(1)>"),
            source: source(),
            table: "\"<t>\"".into(),
            transaction: TransactionId(777),
            by: site(SCRIPT),
        }],
    }
}

fn happened() -> Vec<(i64, Vec<RecoveryEvent>)> {
    let began = |id| RecoveryEvent::CaseBegan { site: site(id) };
    let failure = CaseFailure {
        message: "=the <b>disk</b> is full: path=`/srv/\"x\"`\nsecond line".into(),
        hint: Some("make room, then `lifeboat recover retry`".into()),
        exit_code: 10,
    };
    vec![
        (-30, vec![RecoveryEvent::Approved { hash: "x".into() }]),
        (0, vec![RecoveryEvent::RunBegan, began(PLAIN)]),
        (10, vec![restored(PLAIN, true), began(SCRIPT), began(QUOTES)]),
        (10, vec![RecoveryEvent::HandedOver { site: site(PLAIN), to: HandOver::Opened, note: String::new() }]),
        (25, vec![restored(SCRIPT, false), RecoveryEvent::CaseFailed { site: site(QUOTES), failure }, began(COMMAS)]),
        (25, vec![RecoveryEvent::Bystanders(Bystanders::Proven(Arc::new(proof())))]),
        (26, vec![RecoveryEvent::Skipped { site: site(FORMULA), reason: "-later & <never>".into() }]),
    ]
}

fn state_of(plan: &RecoveryPlan, happened: Vec<(i64, Vec<RecoveryEvent>)>) -> RecoveryState {
    let mut state = RecoveryState::of(plan);
    for (number, (second, events)) in (1..).zip(happened) {
        let written_at = Timestamp(BEGIN + second * SECOND);
        let (nonce, run) = (ObjectId([0; 16]), state.run.as_ref().map(|run| run.number));
        state.apply(&RecoveryEntry { number, nonce, written_at, writer: writer(), run, events }).unwrap();
    }
    state
}

fn with_report<T>(seen: impl FnOnce(&Report<'_>) -> T) -> T {
    let plan = plan();
    let state = state_of(&plan, happened());
    seen(&Report::of((&plan, "8fea8e9ce15f0e7c"), &state, Runner::AtWork, Timestamp(BEGIN + 40 * SECOND)))
}

fn checked() -> Signed {
    Signed::Checked(HashSet::from([site(PLAIN)]))
}

fn golden(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("verbs/recover/report/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == made, "{name} changed: look at it, then run `UPDATE=1 cargo test -p lifeboat-cli --lib report`");
}

#[test]
fn a_report_is_written_as_it_always_was() {
    with_report(|report| {
        golden("report.html", &page::page(report, Audience::Operators, &checked(), true));
        golden("report.csv", &csv::csv(report, &checked()));
        let json = |audience| serde_json::to_string_pretty(&json::json(report, audience, &checked())).unwrap() + "\n";
        golden("report.json", &json(Audience::Operators));
        golden("public.html", &page::page(report, Audience::Public, &Signed::NotChecked, true));
        golden("public.json", &json(Audience::Public));
    });
}

/// The tags of a page, each with its attributes' names; panics where it is not well formed.
fn tags(html: &str) -> Vec<(String, Vec<String>)> {
    let (mut rest, mut open, mut found) = (html.strip_prefix("<!doctype html>").unwrap(), Vec::new(), Vec::new());
    while let Some((_, after)) = rest.split_once('<') {
        // No text in an attribute has a `>`: it is escaped there, too.
        let (tag, behind) = after.split_once('>').unwrap();
        rest = behind;
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "closed out of turn before {:.60}", behind);
            continue;
        }
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
        let quoted: Vec<&str> = attributes.split('"').collect();
        assert!(quoted.len() % 2 == 1, "a quote is open: {tag}");
        let names = quoted.iter().step_by(2).flat_map(|text| text.split_whitespace());
        found.push((name.to_owned(), names.map(|name| name.trim_end_matches('=').to_owned()).collect()));
        let is_void = tag.ends_with('/') || ["meta", "br"].contains(&name);
        if !is_void {
            open.push(name.to_owned());
        }
        if name == "style" {
            rest = rest.split_once("</style>").unwrap().1;
            open.pop();
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    found
}

// Explains invariant: text-is-text
#[test]
fn hostile_ids_and_messages_are_text_in_a_page() {
    const TAGS: [&str; 42] = [
        "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "p", "h1", "h2", "span", "svg",
        "rect", "line", "polyline", "polygon", "text", "figure", "dl", "div", "dt", "dd", "ol", "ul", "li", "b", "i",
        "nav", "a", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "bdi", "code", "br",
    ];
    const ATTRIBUTES: [&str; 25] = [
        "lang",
        "charset",
        "name",
        "content",
        "http-equiv",
        "class",
        "id",
        "href",
        "aria-label",
        "role",
        "viewBox",
        "preserveAspectRatio",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "width",
        "height",
        "points",
        "transform",
        "scope",
        "colspan",
        "data-name",
    ];
    with_report(|report| {
        for audience in [Audience::Operators, Audience::Public] {
            let html = page::page(report, audience, &checked(), true);
            for (tag, attributes) in tags(&html) {
                assert!(TAGS.contains(&tag.as_str()), "<{tag}>");
                let strange = attributes.iter().find(|name| !ATTRIBUTES.contains(&name.as_str()));
                assert_eq!(strange, None, "<{tag}>");
            }
            assert!(!html.contains('\u{202e}'), "it turns around what stands behind it");
        }
    });
}

#[test]
fn a_page_asks_nobody_for_anything_and_tells_a_browser_so() {
    with_report(|report| {
        let html = page::page(report, Audience::Operators, &checked(), true);
        assert!(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
        for loads in ["@import", "url(", "http://", "https://", "<script", "<link", "<iframe", "<form", "<img"] {
            assert!(!html.contains(loads), "{loads}");
        }
    });
}

#[test]
fn a_public_page_names_no_site_and_repeats_no_text() {
    with_report(|report| {
        let page = page::page(report, Audience::Public, &Signed::NotChecked, true);
        let json = json::json(report, Audience::Public, &Signed::NotChecked).to_string();
        for said in [page, json] {
            for told in [
                "acme", "alert", "onerror", "cmd()", "gpj", "disk", "db-3", "--sites", "later", "taken", "beta",
                "onclick", "777",
            ] {
                assert!(!said.contains(told), "{told}");
            }
            assert!(said.contains("7171717171717171"));
        }
    });
}

/// The cells of a table as RFC 4180 has it.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell, mut is_quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = csv.chars().peekable();
    while let Some(character) = rest.next() {
        match (character, is_quoted) {
            ('"', true) if rest.next_if_eq(&'"').is_some() => cell.push('"'),
            ('"', _) => is_quoted = !is_quoted,
            (',', false) => line.push(std::mem::take(&mut cell)),
            ('\r', false) => {
                assert_eq!(rest.next(), Some('\n'));
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            (character, _) => cell.push(character),
        }
    }
    assert!(!is_quoted && line.is_empty());
    lines
}

#[test]
fn no_cell_of_a_table_is_a_formula_and_none_breaks_out_of_its_place() {
    with_report(|report| {
        let lines = cells(&csv::csv(report, &checked()));
        assert_eq!(lines.len(), 7, "a site a line, below the names");
        assert_eq!(lines.iter().map(Vec::len).collect::<BTreeSet<_>>().len(), 1);
        for cell in lines.iter().flatten() {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{cell}");
        }
        let ids: Vec<&str> = lines[1..].iter().map(|line| line[0].as_str()).collect();
        assert_eq!(ids, [PLAIN, SCRIPT, QUOTES, "'=cmd()|'/c calc'!A0", COMMAS, "'+waiting"]);
    });
}

#[test]
fn only_a_page_that_is_renewed_asks_for_itself_again() {
    with_report(|report| {
        let asks =
            |is_renewed| page::page(report, Audience::Public, &Signed::NotChecked, is_renewed).contains("\"refresh\"");
        assert!(asks(true) && !asks(false));
    });
}

#[test]
fn a_directory_is_taken_only_where_nothing_of_others_lies() {
    let dir = tempfile::tempdir().unwrap();
    let recovery = RecoveryId([0x71; 8]);
    let claim = |name: &str, recovery, audience| Folder::claim(dir.path().join(name), recovery, audience);
    let refused = |name: &str, recovery, audience, part: &str| {
        let error = claim(name, recovery, audience).err().unwrap();
        assert!(error.exit_code() == 2 && error.message.contains(part), "{error:?}");
    };
    with_report(|report| {
        let write =
            |name: &str, audience| claim(name, recovery, audience).unwrap().write(report, &checked(), true).unwrap();
        write("full", Audience::Operators);
        write("full", Audience::Operators);
        write("public", Audience::Public);
        let names = |name: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(dir.path().join(name)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names("full"), BTreeSet::from(["report.csv", "report.html", "report.json"].map(str::to_owned)));
        assert_eq!(names("public"), BTreeSet::from(["report.html", "report.json"].map(str::to_owned)));
        let mode = |name: &str| dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("full"), mode("full/report.html"), mode("full/report.csv")), (0o700, 0o600, 0o600));
        // Whoever lets others read it says so once.
        std::fs::set_permissions(dir.path().join("full/report.html"), PermissionsExt::from_mode(0o644)).unwrap();
        write("full", Audience::Operators);
        assert_eq!((mode("full/report.html"), mode("full/report.json")), (0o644, 0o600));
    });
    refused("full", RecoveryId([1; 8]), Audience::Operators, "7171717171717171");
    refused("full", recovery, Audience::Public, "a full report");
    refused("public", recovery, Audience::Operators, "a public report");
    std::fs::create_dir(dir.path().join("theirs")).unwrap();
    std::fs::write(dir.path().join("theirs/report.html"), "somebody's own").unwrap();
    refused("theirs", recovery, Audience::Operators, "report.html");
    std::fs::write(dir.path().join("theirs/.bashrc"), "x").unwrap();
    refused("theirs", recovery, Audience::Operators, ".bashrc");
    assert_eq!(std::fs::read_to_string(dir.path().join("theirs/report.html")).unwrap(), "somebody's own");
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(claim("file", recovery, Audience::Operators).is_err());
    assert!(claim("no/such/parent", recovery, Audience::Operators).is_err());
}
