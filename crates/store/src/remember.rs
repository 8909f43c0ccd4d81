//! Remembers what a store has answered about names that begin with a prefix, for all who read through it.
//!
//! Objects are written once: what was read of one stays true. A listing stays as it was when somebody asked first, until
//! something is created or deleted this way; so what several readers see of a sequence that grows is one moment of it.
//! Of several who ask the same at one time one asks, and the others wait for it. Errors are not remembered. Which name
//! is the first of a folder right below the prefix is asked each time: once it is another, its listings are forgotten.
//! Whoever finds that an answer cannot be true has it forgotten ([`Store::forget`]).
//!
//! Memory is bounded: what has no room is asked of the store again. What is not here: copies that outlive the process
//! ([`crate::Cache`]), and ranges, which hardly two readers share.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{Error, Listed, ObjectName, Store};

/// About what an answer takes beside its content, and each name in a listing.
const ANSWER_BYTES: usize = 256;

/// What was answered; shared by several [`Remember`].
#[derive(Debug)]
pub struct Remembered {
    prefix: String,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    bodies: Answers<ObjectName, Bytes>,
    listings: Answers<Question, Vec<Listed>>,
    room: Room,
    /// The first name of each folder that was asked for, as it was last.
    firsts: HashMap<String, Option<ObjectName>>,
}

/// Prefix, after, limit.
type Question = (String, Option<ObjectName>, usize);

type Answers<Q, T> = HashMap<Q, Answer<T>>;

#[derive(Debug)]
struct Answer<T> {
    cell: Arc<OnceCell<T>>,
    /// That are counted for it.
    bytes: usize,
}

#[derive(Debug)]
struct Room {
    bytes: usize,
    bytes_max: usize,
}

impl Room {
    /// Where the answer is or will be; `None`: there is no room for it.
    fn cell<Q: Eq + Hash, T>(&mut self, answers: &mut Answers<Q, T>, question: Q) -> Option<Arc<OnceCell<T>>> {
        if let Some(answer) = answers.get(&question) {
            return Some(Arc::clone(&answer.cell));
        }
        if self.bytes >= self.bytes_max {
            return None;
        }
        self.bytes += ANSWER_BYTES;
        let cell = Arc::default();
        answers.insert(question, Answer { cell: Arc::clone(&cell), bytes: ANSWER_BYTES });
        Some(cell)
    }

    /// Counts an answer that came, unless it was forgotten before it came.
    fn took<Q: Eq + Hash, T>(
        &mut self,
        answers: &mut Answers<Q, T>,
        question: &Q,
        (cell, bytes): (&Arc<OnceCell<T>>, usize),
    ) {
        if let Some(answer) = answers.get_mut(question).filter(|answer| Arc::ptr_eq(&answer.cell, cell)) {
            answer.bytes += bytes;
            self.bytes += bytes;
        }
    }

    fn forget<Q: Eq + Hash, T>(&mut self, answers: &mut Answers<Q, T>, is_meant: impl Fn(&Q) -> bool) {
        answers.retain(|question, answer| {
            let stays = !is_meant(question);
            self.bytes -= if stays { 0 } else { answer.bytes };
            stays
        });
    }
}

impl Remembered {
    pub fn new(prefix: impl Into<String>, bytes_max: usize) -> Self {
        let room = Room { bytes: 0, bytes_max };
        let held = Held { bodies: HashMap::new(), listings: HashMap::new(), room, firsts: HashMap::new() };
        Self { prefix: prefix.into(), held: Mutex::new(held) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, name: &ObjectName) -> Option<Arc<OnceCell<Bytes>>> {
        let Held { bodies, room, .. } = &mut *self.held();
        name.as_str().starts_with(&self.prefix).then(|| room.cell(bodies, name.clone()))?
    }

    fn took_body(&self, name: &ObjectName, answer: (&Arc<OnceCell<Bytes>>, usize)) {
        let Held { bodies, room, .. } = &mut *self.held();
        room.took(bodies, name, answer);
    }

    fn listing(&self, question: &Question) -> Option<Arc<OnceCell<Vec<Listed>>>> {
        let Held { listings, room, .. } = &mut *self.held();
        question.0.starts_with(&self.prefix).then(|| room.cell(listings, question.clone()))?
    }

    fn took_listing(&self, question: &Question, answer: (&Arc<OnceCell<Vec<Listed>>>, usize)) {
        let Held { listings, room, .. } = &mut *self.held();
        room.took(listings, question, answer);
    }

    /// Whether it is asked which name is the first of a folder right below the prefix.
    fn asks_for_first(&self, (prefix, after, limit): &Question) -> bool {
        let folder = prefix.strip_prefix(&self.prefix).and_then(|rest| rest.strip_suffix('/'));
        *limit == 1 && after.is_none() && folder.is_some_and(|folder| !folder.is_empty() && !folder.contains('/'))
    }

    /// What was listed of a folder of which another name is the first by now is of another moment.
    fn saw_first(&self, folder: &str, first: Option<ObjectName>) {
        let Held { listings, room, firsts, .. } = &mut *self.held();
        let before = firsts.insert(folder.to_owned(), first.clone());
        if before.is_some_and(|before| before != first) {
            room.forget(listings, |(prefix, ..)| prefix.starts_with(folder));
        }
    }

    fn changed(&self, name: &ObjectName) {
        if name.as_str().starts_with(&self.prefix) {
            let Held { bodies, listings, room, .. } = &mut *self.held();
            room.forget(listings, |_| true);
            room.forget(bodies, |body| body == name);
        }
    }

    /// `false`: of such names nothing is ever remembered.
    fn forget(&self, begin: &str) -> bool {
        let Held { bodies, listings, room, .. } = &mut *self.held();
        room.forget(listings, |(prefix, ..)| prefix.starts_with(begin));
        room.forget(bodies, |name| name.as_str().starts_with(begin));
        begin.starts_with(&self.prefix) || self.prefix.starts_with(begin)
    }
}

/// Asks the store within once for what is remembered.
#[derive(Debug)]
pub struct Remember<S> {
    store: S,
    remembered: Arc<Remembered>,
}

impl<S: Store> Remember<S> {
    pub fn new(store: S, remembered: Arc<Remembered>) -> Self {
        Self { store, remembered }
    }
}

#[async_trait]
impl<S: Store> Store for Remember<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let created = self.store.create(name, body).await;
        self.remembered.changed(name);
        created
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        let Some(cell) = self.remembered.body(name) else { return self.store.get(name).await };
        let ask = || async {
            let body = self.store.get(name).await?;
            self.remembered.took_body(name, (&cell, body.len()));
            Ok::<_, Error>(body)
        };
        cell.get_or_try_init(ask).await.cloned()
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.store.get_range(name, range).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        // What is asked is what the store has: no memory answers for it.
        self.store.holds(name, body).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        let question = (prefix.to_owned(), after.cloned(), limit);
        if self.remembered.asks_for_first(&question) {
            let listed = self.store.list(prefix, after, limit).await?;
            self.remembered.saw_first(prefix, listed.first().map(|first| first.name.clone()));
            return Ok(listed);
        }
        let Some(cell) = self.remembered.listing(&question) else {
            return self.store.list(prefix, after, limit).await;
        };
        let ask = || async {
            let listed = self.store.list(prefix, after, limit).await?;
            self.remembered.took_listing(&question, (&cell, listed.len() * ANSWER_BYTES));
            Ok::<_, Error>(listed)
        };
        cell.get_or_try_init(ask).await.cloned()
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let deleted = self.store.delete(name).await;
        self.remembered.changed(name);
        deleted
    }

    fn forget(&self, prefix: &str) -> bool {
        let within = self.store.forget(prefix);
        self.remembered.forget(prefix) || within
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, Meter};

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    async fn create(store: &impl Store, text: &str) {
        store.create(&name(text), Bytes::from(text.to_owned())).await.unwrap();
    }

    #[tokio::test]
    async fn what_two_readers_ask_of_the_prefix_is_asked_once_and_all_else_each_time() {
        let store = Arc::new(MemoryStore::new());
        for text in ["log/a", "log/b", "sites/a"] {
            create(&store, text).await;
        }
        let meter = Arc::new(Meter::new(Arc::clone(&store)));
        let remembered = Arc::new(Remembered::new("log/", 1 << 20));
        let readers = [1, 2].map(|_| Remember::new(Arc::clone(&meter), Arc::clone(&remembered)));
        let ask = async || {
            for reader in &readers {
                assert_eq!(reader.get(&name("log/a")).await.unwrap(), "log/a");
                assert_eq!(reader.get(&name("sites/a")).await.unwrap(), "sites/a");
                reader.get(&name("log/none")).await.unwrap_err();
                assert_eq!(reader.get_range(&name("log/a"), 0..3).await.unwrap(), "log");
            }
        };
        ask().await;
        let used = meter.meters().snapshot();
        assert_eq!((used.gets, used.range_gets), (1 + 2 + 2, 2), "what is not there may come");
        let listed = async |reader: &Remember<_>| reader.list("log/", None, 9).await.unwrap().len();
        assert_eq!([listed(&readers[0]).await, listed(&readers[1]).await], [2, 2]);
        // The sequence goes on: who has begun to read it sees it as it was. Who goes on with it himself does not.
        create(&store, "log/c").await;
        assert_eq!(listed(&readers[1]).await, 2);
        assert_eq!(meter.meters().snapshot().lists, 1);
        create(&readers[0], "log/d").await;
        assert_eq!(listed(&readers[1]).await, 4);
    }

    #[tokio::test]
    async fn what_has_no_room_is_asked_again_and_is_as_right() {
        let store = Meter::new(MemoryStore::new());
        create(&store, "log/a").await;
        let meters = store.meters();
        let reader = Remember::new(store, Arc::new(Remembered::new("log/", 1)));
        assert_eq!(reader.list("log/", None, 9).await.unwrap().len(), 1);
        for _ in 0..3 {
            assert_eq!(reader.get(&name("log/a")).await.unwrap(), "log/a");
        }
        assert_eq!(meters.snapshot().gets, 3);
    }

    #[tokio::test]
    async fn what_was_forgotten_is_asked_again_and_nothing_else_is() {
        let store = Arc::new(MemoryStore::new());
        for text in ["log/a/1", "log/b/1"] {
            create(&store, text).await;
        }
        let meter = Arc::new(Meter::new(Arc::clone(&store)));
        let reader = Remember::new(Arc::clone(&meter), Arc::new(Remembered::new("log/", 1 << 20)));
        let used = async || {
            let before = meter.meters().snapshot();
            for folder in ["log/a/", "log/b/"] {
                reader.get(&name(&format!("{folder}1"))).await.unwrap();
                reader.list(folder, None, 9).await.unwrap();
            }
            let used = meter.meters().snapshot().since(&before);
            (used.gets, used.lists)
        };
        assert_eq!([used().await, used().await], [(2, 2), (0, 0)]);
        assert!(reader.forget("log/a/"));
        assert_eq!([used().await, used().await], [(1, 1), (0, 0)]);
        assert!(reader.forget("log/a/1"));
        assert_eq!(used().await, (1, 0));
        assert!(!reader.forget("sites/"), "asking again would be for nothing");
        assert_eq!(used().await, (0, 0));
    }

    #[tokio::test]
    async fn which_name_is_the_first_is_asked_each_time_and_a_new_one_ends_the_moment() {
        let store = Arc::new(MemoryStore::new());
        for text in ["log/a/5", "log/b/5"] {
            create(&store, text).await;
        }
        let reader = Remember::new(Arc::clone(&store), Arc::new(Remembered::new("log/", 1 << 20)));
        let listed = async |folder| reader.list(folder, None, 9).await.unwrap().len();
        let first = async || reader.list("log/a/", None, 1).await.unwrap()[0].name.to_string();
        assert_eq!((first().await, listed("log/a/").await, listed("log/b/").await), ("log/a/5".into(), 1, 1));
        for text in ["log/a/6", "log/b/6"] {
            create(&store, text).await;
        }
        assert_eq!((first().await, listed("log/a/").await), ("log/a/5".into(), 1), "one moment");
        create(&store, "log/a/4").await;
        assert_eq!((first().await, listed("log/a/").await, listed("log/b/").await), ("log/a/4".into(), 3, 1));
    }

    #[tokio::test]
    async fn bytes_are_counted_from_the_question_on_and_given_back() {
        let store = Arc::new(MemoryStore::new());
        create(&store, "log/a").await;
        let remembered = Arc::new(Remembered::new("log/", 1 << 20));
        let reader = Remember::new(Arc::clone(&store), Arc::clone(&remembered));
        let bytes = || remembered.held().room.bytes;
        reader.get(&name("log/none")).await.unwrap_err();
        assert_eq!(bytes(), ANSWER_BYTES, "the question is kept, though it had no answer");
        reader.get(&name("log/a")).await.unwrap();
        reader.list("log/", None, 9).await.unwrap();
        assert_eq!(bytes(), 3 * ANSWER_BYTES + 5 + ANSWER_BYTES);
        create(&reader, "log/none").await;
        assert_eq!(bytes(), ANSWER_BYTES + 5);
        reader.delete(&name("log/a")).await.unwrap();
        assert_eq!(bytes(), 0);
    }
}
