//! Every object damaged in every way, one at a time.

use std::collections::BTreeSet;

use lifeboat_engine::SiteOutcome;
use lifeboat_model::Mark;
use lifeboat_testkit::crash_runner::is_full;
use lifeboat_testkit::fault_store::FaultStore;

use super::*;

/// Bytes of each object that are flipped, in a normal run.
const BYTES: usize = 10;

/// Evenly spread places of an object, the first and the last byte among them; all of them in a full run.
fn places(len: usize, some: usize) -> Vec<usize> {
    if is_full() || len <= some {
        return (0..len).collect();
    }
    (0..some).map(|number| number * (len - 1) / (some - 1)).collect()
}

/// Damages an object and looks at every point, with and without a catalog.
async fn check_reads(sample: &Sample, object: &ObjectName, body: Option<Bytes>, what: &str) -> usize {
    let context = format!("{object} {what}");
    let store = sample.with(object, body);
    let mut refused = 0;
    match sample.host(store.clone()).await {
        Err(error) => {
            check_named(&error, object, &context);
            return 1;
        }
        Ok(engine) => {
            for (point, got) in sample.look(&engine).await {
                let context = format!("{context}: {point:?}");
                match got {
                    Ok(picture) => assert_same(&picture, &sample.truth[&point], &context),
                    Err(error) => {
                        check_named(&error, object, &context);
                        assert!(is_about(sample, object, &point.0), "{context}: damage of another site: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    refused
}

/// The objects that looking at every point reads: what is in the others cannot matter to it.
async fn read_objects(sample: &Sample) -> BTreeSet<String> {
    let store = FaultStore::new(sample.with(&nothing(), None));
    let faults = store.faults();
    let engine = sample.host(Arc::new(store)).await.expect("an engine");
    sample.look(&engine).await;
    faults.calls().into_iter().map(|call| call.name).collect()
}

/// Whether an object may matter to a site: its own, or the repository's.
fn is_about(sample: &Sample, object: &ObjectName, site: &str) -> bool {
    let handle = sample.handles[site];
    match parse_object_name(object.as_str()) {
        Some(
            ParsedName::SiteKey(owner, _)
            | ParsedName::SiteKeyCopy(owner, _)
            | ParsedName::Commit(owner, _)
            | ParsedName::Object(owner, ..),
        ) => owner == handle,
        _ => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flipped_byte_of_any_object_is_named_or_harmless() {
    let sample = Sample::new().await;
    let read = read_objects(&sample).await;
    let (mut flips, mut refused, mut bytes) = (0, 0, 0);
    for (object, body) in sample.objects.iter().filter(|(object, _)| read.contains(object.as_str())) {
        for place in places(body.len(), BYTES) {
            let mut rotten = body.to_vec();
            rotten[place] ^= 1 << (place % 8);
            let what = format!("with bit {} of byte {place} of {} changed", place % 8, body.len());
            refused += usize::from(check_reads(&sample, object, Some(rotten.into()), &what).await > 0);
            flips += 1;
        }
        bytes += body.len();
    }
    let (of, all) = (read.len(), sample.objects.len());
    println!("{flips} flips in the {of} of {all} objects that are read, {bytes} bytes: {refused} of them noticed");
    assert!(refused > flips / 2, "only {refused} of {flips} flips were noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_truncated_or_lost_object_is_named_or_harmless() {
    let sample = Sample::new().await;
    let (mut cuts, mut refused) = (0, 0);
    for (object, body) in &sample.objects {
        let mut cut = places(body.len(), 5);
        cut.pop();
        // In a full run every length of short objects, and many of longer ones.
        for len in cut.iter().step_by(1 + cut.len() / 400).copied() {
            let what = format!("cut to {len} of {} bytes", body.len());
            refused += usize::from(check_reads(&sample, object, Some(body.slice(..len)), &what).await > 0);
            cuts += 1;
        }
        let longer: Bytes = [body, &Bytes::from_static(b"more")].map(|part| part.to_vec()).concat().into();
        check_reads(&sample, object, Some(longer), "with more behind it").await;
        refused += usize::from(check_reads(&sample, object, None, "lost").await > 0);
        cuts += 2;
    }
    println!("{cuts} objects cut or lost, {refused} of them noticed");
    assert!(refused > cuts / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_object_in_place_of_another_is_named_or_harmless() {
    let sample = Sample::new().await;
    let kind = |name: &ObjectName| {
        let text = name.as_str().replace(|c: char| c.is_ascii_hexdigit(), "");
        parse_object_name(name.as_str()).map(|parsed| (std::mem::discriminant(&parsed), text))
    };
    let (mut swaps, mut refused) = (0, 0);
    for object in sample.objects.keys() {
        for (other, body) in sample.objects.iter().filter(|(other, _)| *other != object) {
            if kind(other) != kind(object) && !is_full() {
                continue;
            }
            refused += usize::from(check_reads(&sample, object, Some(body.clone()), &format!("is {other}")).await > 0);
            swaps += 1;
        }
    }
    println!("{swaps} objects in place of others, {refused} of them noticed");
    assert!(refused > swaps / 4);
}

/// Another repository under the same master key: its objects are whole and well sealed.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_repository_with_the_same_key_is_named_or_harmless() {
    let sample = Sample::new().await;
    let other = Sample::with_key(sample.world.master.clone()).await;
    let mut refused = 0;
    let mut replaced = 0;
    for object in sample.objects.keys() {
        if let Some(body) = other.objects.get(object) {
            refused += check_reads(&sample, object, Some(body.clone()), "is that of another repository").await;
            replaced += 1;
        }
    }
    println!("{replaced} objects of another repository of the same name");
    assert!(replaced >= 4 && refused > 0, "{replaced} {refused}");
}

/// What a catalog would tell is not there: the points that are found still hold the truth.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_catalog_a_lost_object_never_makes_other_data() {
    let sample = Sample::new().await;
    for object in sample.objects.keys() {
        let Ok(engine) = sample.stranger(sample.with(object, None)).await else { continue };
        for (point, got) in sample.look(&engine).await {
            if let Ok(picture) = got {
                assert_same(&picture, &sample.truth[&point], &format!("{object} lost: {point:?}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_over_damaged_objects_names_them_and_leaves_the_site_as_it_is() {
    let sample = Sample::new().await;
    let (mut undone, mut refused) = (0, 0);
    for (object, body) in sample.objects.iter().filter(|(object, _)| is_about(&sample, object, SITE)) {
        for place in places(body.len(), if is_full() { 200 } else { 4 }) {
            let mut rotten = body.to_vec();
            rotten[place] ^= 1 << (place % 8);
            let context = format!("undo with byte {place} of {object} changed");
            let Ok(engine) = sample.host(sample.with(object, Some(rotten.into()))).await else { continue };
            sample.reset_live();
            match run_restore(&engine, &restore_request(SITE, RestorePoint::Undo(sample.undo))).await {
                Ok(receipt) => {
                    assert!(receipt.all_passed(), "{context}: {:?}", receipt.checks);
                    assert_same(&sample.world.picture(SITE), &sample.undone, &context);
                    undone += 1;
                }
                Err(error) => {
                    check_named(&error, object, &context);
                    assert_same(&sample.world.picture(SITE), &sample.live, &context);
                    refused += 1;
                }
            }
        }
    }
    println!("{undone} undos over damage that did not matter, {refused} refused");
    assert!(undone > 0 && refused > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_over_damaged_objects_names_them_or_publishes_the_truth() {
    let sample = Sample::new().await;
    std::fs::write(sample.world.site_dir(SITE).join("files/new"), noise(77, 500)).expect("a file");
    std::fs::write(sample.world.site_dir(TINY).join("files/new"), noise(78, 500)).expect("a file");
    let (mut published, mut refused) = (0, 0);
    for (object, body) in &sample.objects {
        let flips = places(body.len(), if is_full() { 200 } else { 4 }).into_iter().map(|place| {
            let mut rotten = body.to_vec();
            rotten[place] ^= 1 << (place % 8);
            (format!("with byte {place} changed"), Some(Bytes::from(rotten)))
        });
        for (what, rotten) in flips.chain([("lost".to_owned(), None)]) {
            let context = format!("a backup, {object} {what}");
            let store = sample.with(object, rotten);
            let report = match sample.host(store.clone()).await {
                Ok(engine) => backup(&engine, &BackupRequest::default()).await,
                Err(error) => Err(error),
            };
            let report = match report {
                Ok(report) => report,
                Err(error) => {
                    check_named(&error, object, &context);
                    refused += 1;
                    continue;
                }
            };
            // What was damaged is whole again: nothing wrong was built on it.
            store.replace(object, body.clone());
            let engine = sample.stranger(store.clone()).await.expect("the repository");
            for site in report.sites {
                let name = site.site.to_string();
                match site.outcome {
                    SiteOutcome::Failed(error) => {
                        check_named(&error, object, &context);
                        assert!(is_about(&sample, object, &name), "{context}: {name}: {error}");
                        refused += 1;
                    }
                    SiteOutcome::Published(record) | SiteOutcome::Unchanged(record) => {
                        assert_eq!(record.mark, Mark::Good, "{context}: {record:?}");
                        let picture = sample.look_at(&engine, &name, record.id).await;
                        let picture = picture.unwrap_or_else(|error| panic!("{context}: {name}: {error}"));
                        assert_same(&picture, &sample.world.picture(&name), &context);
                        published += 1;
                    }
                    SiteOutcome::Vanished { .. } => panic!("{context}: {name} vanished"),
                }
            }
        }
    }
    println!("{published} sites backed up over damage, {refused} times refused");
    assert!(published > 0 && refused > 0);
}
