use std::sync::Arc;

use lifeboat_format::SecretKey;
use lifeboat_model::{EpochId, Lsn, Timestamp};
use lifeboat_store::MemoryStore;

use super::*;

async fn repository() -> Repository {
    let (store, key) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
    Repository::init(store, &key).await.unwrap().0
}

fn source() -> SourceName {
    SourceName::new("app").unwrap()
}

fn facts(begins: u64) -> SpillFacts {
    SpillFacts {
        source: source(),
        epoch: EpochId(2),
        system_identifier: "7".into(),
        timeline: 1,
        slot: "lifeboat_app".into(),
        begins: Lsn(begins),
    }
}

fn item(number: u64) -> SpillItem {
    SpillItem::Message { start: Lsn(number), bytes: format!("row number {number} ").repeat(40).into_bytes() }
}

fn mark(till: u64) -> SpillMark {
    SpillMark { till: Lsn(till), at: Timestamp(till as i64) }
}

fn all_of(spill: &Spill) -> Vec<SpillItem> {
    let Some(mut reader) = spill.read().unwrap() else { return Vec::new() };
    std::iter::from_fn(|| reader.next_item().unwrap()).collect()
}

// Explains invariant: spill-synced-before-marked
#[tokio::test]
async fn a_spill_that_ends_anywhere_has_what_is_before_its_last_whole_mark() {
    let (repository, dir) = (repository().await, tempfile::tempdir().unwrap());
    let spill = Spill::new(&repository, dir.path(), &source(), 1 << 20);
    assert_eq!(spill.look().unwrap(), None);
    let mut writer = spill.append(facts(10), false).unwrap();
    let mut ends = Vec::new();
    for number in 0..6_u64 {
        writer.push(&item(number));
        writer.write((number % 2 == 1).then(|| mark(number))).unwrap();
        ends.push(writer.len());
    }
    let file = dir.path().join("spill-app.sealed");
    let whole = std::fs::read(&file).unwrap();
    assert_eq!(whole.len() as u64, ends[5]);
    for len in (0..whole.len()).step_by(7).chain(ends.iter().map(|end| *end as usize)) {
        std::fs::write(&file, &whole[..len]).unwrap();
        let marks = ends.iter().skip(1).step_by(2).filter(|end| **end <= len as u64).count() as u64;
        let want: Vec<_> = (0..marks * 2).map(item).collect();
        assert_eq!(all_of(&spill), want, "{len}");
        assert_eq!(spill.look().unwrap().map(|seen| seen.mark), (marks > 0).then(|| mark(marks * 2 - 1)), "{len}");
        // Whoever goes on does so behind the mark.
        let mut again = spill.append(facts(10), false).unwrap();
        again.push(&item(99));
        again.write(Some(mark(99))).unwrap();
        assert_eq!(all_of(&spill), [want, vec![item(99)]].concat(), "{len}");
    }
    spill.remove().unwrap();
    spill.remove().unwrap();
    assert_eq!(spill.look().unwrap(), None);
}

#[tokio::test]
async fn a_spill_with_a_record_that_is_not_its_own_is_damaged_and_one_of_another_repository_too() {
    let (own, other, dir) = (repository().await, repository().await, tempfile::tempdir().unwrap());
    let spill = Spill::new(&own, dir.path(), &source(), 1 << 20);
    let mut writer = spill.append(facts(10), false).unwrap();
    let mut ends = vec![0];
    for number in 0..3_u64 {
        writer.push(&item(number));
        writer.write(Some(mark(number))).unwrap();
        ends.push(writer.len() as usize);
    }
    assert!(Spill::new(&other, dir.path(), &source(), 1 << 20).look().is_err());
    let file = dir.path().join("spill-app.sealed");
    let whole = std::fs::read(&file).unwrap();
    let without_second = [&whole[..ends[1]], &whole[ends[2]..]].concat();
    let mut flipped = whole.clone();
    flipped[ends[1] + 200] ^= 1;
    for bytes in [without_second, flipped] {
        std::fs::write(&file, bytes).unwrap();
        let Some(mut reader) = spill.read().unwrap() else { panic!("the first record is whole") };
        let ended = std::iter::from_fn(|| reader.next_item().transpose()).collect::<Result<Vec<_>, _>>();
        assert!(ended.is_err() || ended.unwrap() == [item(0)]);
    }
}

#[tokio::test]
async fn nothing_is_written_beyond_the_limit_and_nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (repository, dir) = (repository().await, tempfile::tempdir().unwrap());
    let spill = Spill::new(&repository, dir.path(), &source(), 2_000);
    let mut writer = spill.append(facts(10), false).unwrap();
    let full = (0..100).find_map(|number| {
        writer.push(&item(number));
        writer.write(Some(mark(number))).err().map(|error| (number, error))
    });
    let Some((number, Error::SpillFull { .. })) = full else { panic!("{full:?}") };
    assert!(number > 0 && Spill::bytes_on_disk(dir.path(), &source()).unwrap() <= 2_000);
    assert_eq!(all_of(&spill).len() as u64, number);
    let mode = std::fs::metadata(dir.path().join("spill-app.sealed")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another one begins anew.
    spill.append(facts(20), true).unwrap().write(Some(mark(21))).unwrap();
    assert_eq!(spill.look().unwrap().unwrap().facts, facts(20));
}
