//! With `--skip-damaged` the rest of a site comes back, and what does not is named.

use lifeboat_model::{ChunkRef, Receipt};

use super::*;

/// How the site is when it is restored over damaged objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Deleted,
    /// Other content everywhere, and something extra.
    Changed,
}

/// The first chunk of an entry of the newest point, and the point.
async fn chunk_of(sample: &Sample, part: &str, path: &str) -> (ChunkRef, SnapshotId) {
    let engine = sample.stranger(sample.with(&nothing(), None)).await.expect("an engine");
    let site = engine.site(&site_id(SITE)).await.expect("the site");
    let record = site.state().latest().expect("a point").clone();
    let manifest = site.manifest(&record.manifest).await.expect("a manifest");
    let number = manifest.head().parts.iter().position(|head| head.record.source.as_str() == part).expect("the part");
    let entries = manifest.entries(&site, number).await.expect("entries");
    let entry = entries.iter().find(|entry| entry.path.to_string() == path).expect("the entry");
    (*entry.chunks().next().expect("a chunk"), record.id)
}

/// The object with its byte at an offset changed.
fn flip(sample: &Sample, object: &ObjectName, offset: u64) -> Option<Bytes> {
    let mut rotten = sample.objects[object].to_vec();
    rotten[offset as usize] ^= 4;
    Some(rotten.into())
}

fn pack_of(sample: &Sample, chunk: &ChunkRef) -> ObjectName {
    let name = lifeboat_format::names::pack(&sample.handles[SITE], &chunk.pack);
    ObjectName::new(name).expect("a name")
}

fn change_live(sample: &Sample, now: Now) -> Picture {
    sample.reset_live();
    let site = sample.world.site_dir(SITE);
    match now {
        Now::Deleted => std::fs::remove_dir_all(&site).expect("the site is removed"),
        Now::Changed => {
            for name in ["a.txt", "b", "deep/c"] {
                std::fs::write(site.join("files").join(name), format!("changed {name}")).expect("a file");
            }
            std::fs::write(site.join("files/extra"), b"extra").expect("a file");
            sample.world.write_rows(SITE, 44, 3);
        }
    }
    sample.world.picture(SITE)
}

async fn restore_over(sample: &Sample, store: Arc<MemoryStore>, skip_damaged: bool) -> Result<Receipt, Error> {
    let engine = sample.host(store).await?;
    let mut request = restore_request(SITE, RestorePoint::At(PointInTime::Latest));
    request.skip_damaged = skip_damaged;
    run_restore(&engine, &request).await
}

/// Damages what one entry needs: refused without the flag; with it, the damaged ones among `lost`
/// stay as they are, and everything else is as the point has it.
async fn check(now: Now, part: &str, path: &str, lose_pack: bool) {
    let sample = Sample::new().await;
    let context = format!("{now:?} site, {part}/{path} damaged, pack lost: {lose_pack}");
    let (chunk, snapshot) = chunk_of(&sample, part, path).await;
    let pack = pack_of(&sample, &chunk);
    let rotten = if lose_pack { None } else { flip(&sample, &pack, chunk.offset + 20) };
    let before = change_live(&sample, now);

    let error = restore_over(&sample, sample.with(&pack, rotten.clone()), false).await;
    let error = error.err().unwrap_or_else(|| panic!("{context}: restored"));
    check_named(&error, &pack, &context);
    assert_eq!(error.fault(), Fault::Damage, "{context}: {error}");
    assert!(error.to_string().contains(path), "{context}: the error does not name the entry: {error}");
    assert_same(&sample.world.picture(SITE), &before, &format!("{context}: after the refusal"));

    let store = sample.with(&pack, rotten);
    let receipt = restore_over(&sample, store.clone(), true).await;
    let receipt = receipt.unwrap_or_else(|error| panic!("{context}: {error}"));
    let failed: Vec<_> = receipt.checks.iter().filter(|check| !check.passed).collect();
    assert!(!failed.is_empty(), "{context}: a receipt without a failed check");
    let after = sample.world.picture(SITE);
    let truth = &sample.truth[&(SITE.to_owned(), snapshot)];
    let mut lost = Vec::new();
    for name in truth.keys().chain(after.keys()) {
        if after.get(name) == truth.get(name) {
            continue;
        }
        assert_eq!(after.get(name), before.get(name), "{context}: {name} is neither restored nor as it was");
        lost.push(name.strip_prefix("files/").unwrap_or(name).to_owned());
    }
    lost.sort();
    lost.dedup();
    assert!(lost.contains(&path.to_owned()), "{context}: {lost:?}");
    assert!(lose_pack || lost.len() == 1, "{context}: more was left out than is damaged: {lost:?}");
    for name in &lost {
        let named = failed.iter().any(|check| check.detail.contains(&format!("entry=`{name}`")));
        let is_database = name == "notes.db" && failed.iter().any(|check| check.name.starts_with("notes:"));
        assert!(named || is_database, "{context}: {name} is not named: {failed:?}");
    }
    check_undo(&sample, store, receipt, &before, &context).await;
}

/// What was replaced all the same can be undone, whatever the damage.
async fn check_undo(sample: &Sample, store: Arc<MemoryStore>, receipt: Receipt, before: &Picture, context: &str) {
    let engine = sample.stranger(store).await.expect("an engine");
    let request = restore_request(SITE, RestorePoint::Undo(receipt.restore));
    let planned = lifeboat_engine::plan_restore(&engine, &request).await;
    let planned = planned.unwrap_or_else(|error| panic!("{context}: the undo's plan: {error}"));
    // What was left out looks like somebody's change since: a person approves it by the plan's hash.
    let approval = lifeboat_engine::Approval::Hash(planned.plan.hash.clone());
    let undone = lifeboat_engine::restore(&engine, &request, planned, &approval).await;
    let undone = undone.unwrap_or_else(|error| panic!("{context}: the undo: {error}"));
    assert!(undone.all_passed(), "{context}: {:?}", undone.checks);
    assert_same(&sample.world.picture(SITE), before, &format!("{context}: after the undo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_left_out_by_name_and_the_rest_restored() {
    check(Now::Deleted, "files", "b", false).await;
    check(Now::Changed, "files", "b", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_left_as_it_is_and_the_rest_restored() {
    check(Now::Deleted, "notes", "notes.db", false).await;
    check(Now::Changed, "notes", "notes.db", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pack_costs_only_what_lay_in_it() {
    check(Now::Deleted, "files", "b", true).await;
    check(Now::Changed, "files", "deep/c", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_place_of_a_damaged_file_stays_with_all_in_it() {
    let sample = Sample::new().await;
    let (chunk, _) = chunk_of(&sample, "files", "b").await;
    let pack = pack_of(&sample, &chunk);
    sample.reset_live();
    let place = sample.world.site_dir(SITE).join("files/b");
    std::fs::remove_file(&place).expect("a file");
    std::fs::create_dir_all(place.join("deep")).expect("directories");
    std::fs::write(place.join("deep/only"), b"nowhere else").expect("a file");
    let before = sample.world.picture(SITE);
    let rotten = flip(&sample, &pack, chunk.offset + 20);
    let receipt = restore_over(&sample, sample.with(&pack, rotten), true).await.expect("a restore");
    assert!(!receipt.all_passed());
    let after = sample.world.picture(SITE);
    for name in before.keys().filter(|name| name.starts_with("files/b/")) {
        assert_eq!(after.get(name), before.get(name), "{name}");
    }
    assert!(after.contains_key("files/b/deep/only"));
}

/// The live copy of what is damaged goes away as an extra: its undo must not name the damaged chunk.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_kept_over_damage_relies_on_nothing_that_is_damaged() {
    let sample = Sample::new().await;
    let (chunk, _) = chunk_of(&sample, "files", "b").await;
    let pack = pack_of(&sample, &chunk);
    sample.reset_live();
    let files = sample.world.site_dir(SITE).join("files");
    std::fs::rename(files.join("b"), files.join("the-only-good-copy")).expect("a file");
    let before = sample.world.picture(SITE);
    let store = sample.with(&pack, None);
    let receipt = restore_over(&sample, store.clone(), true).await.expect("a restore");
    assert!(!files.join("the-only-good-copy").exists(), "it is no longer an extra");
    check_undo(&sample, store, receipt, &before, "the only good copy").await;
}

/// Only backups and undos read the index, to store nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_stops_neither_a_restore_nor_its_undo() {
    let sample = Sample::new().await;
    for index in sample.objects.keys().filter(|name| name.as_str().contains("/index/")) {
        let context = format!("{index} lost");
        let before = change_live(&sample, Now::Changed);
        let store = sample.with(index, None);
        let receipt = restore_over(&sample, store.clone(), false).await;
        let receipt = receipt.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks);
        assert_same(&sample.world.picture(SITE), &sample.live, &context);
        check_undo(&sample, store, receipt, &before, &context).await;
    }
}
