use super::*;

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { kind, ..absent(EntryPath::new(path).unwrap()) }
}

#[test]
fn a_directory_with_other_rights_is_not_as_wanted() {
    let wanted = [entry("", EntryKind::Directory), entry("inner", EntryKind::Directory)];
    let check = |change: fn(&mut Entry), unset: &[PartProblem], want: &[&str]| {
        let mut now = wanted.clone();
        change(&mut now[1]);
        let rest = plan_merge(&now, &wanted, Scope::Whole, &mut |_, _| true);
        assert_eq!(not_as_wanted(&rest, &now, unset), want);
    };
    check(|_| {}, &[], &[]);
    check(|inner| inner.metadata.mode = 0o777, &[], &["inner"]);
    check(|inner| inner.metadata.uid = 7, &[], &["inner"]);
    check(|inner| inner.metadata.modified.seconds = 7, &[], &[]);
    let told = PartProblem { entry: "inner".into(), reason: "the owner could not be set".into() };
    check(|inner| inner.metadata.uid = 7, &[told], &[]);
}
