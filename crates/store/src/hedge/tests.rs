use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Answers after what it is told, in the order it is asked; then after 20 ms.
#[derive(Debug, Default)]
struct Slow {
    asked: AtomicUsize,
    answers: Mutex<Vec<(Duration, Result<Bytes, Error>)>>,
}

impl Slow {
    fn next_answers(&self, mut answers: Vec<(Duration, Result<Bytes, Error>)>) {
        answers.reverse();
        *self.answers.lock().unwrap() = answers;
    }

    async fn answer(&self) -> Result<Bytes, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let next = self.answers.lock().unwrap().pop();
        let (after, answer) = next.unwrap_or((Duration::from_millis(20), Ok(Bytes::from_static(b"usual"))));
        tokio::time::sleep(after).await;
        answer
    }
}

#[async_trait]
impl Store for Slow {
    async fn create(&self, _: &ObjectName, _: Bytes) -> Result<(), Error> {
        self.answer().await.map(drop)
    }
    async fn get(&self, _: &ObjectName) -> Result<Bytes, Error> {
        self.answer().await
    }
    async fn get_range(&self, _: &ObjectName, _: Range<u64>) -> Result<Bytes, Error> {
        self.answer().await
    }
    async fn list(&self, _: &str, _: Option<&ObjectName>, _: usize) -> Result<Vec<Listed>, Error> {
        self.answer().await.map(|_| Vec::new())
    }
    async fn delete(&self, _: &ObjectName) -> Result<(), Error> {
        self.answer().await.map(drop)
    }
    fn describe(&self) -> String {
        "slow".into()
    }
}

const LONG: Duration = Duration::from_secs(20);

fn name() -> ObjectName {
    ObjectName::new("a").unwrap()
}

fn failed() -> Result<Bytes, Error> {
    Err(Error::Unavailable { detail: "503".into(), after: None })
}

fn answer(text: &'static str) -> Result<Bytes, Error> {
    Ok(Bytes::from_static(text.as_bytes()))
}

/// One that has learnt what is usual from so many answers.
async fn learnt(answers: u64) -> Hedge<Slow> {
    let hedge = Hedge::new(Slow::default());
    for _ in 0..answers {
        hedge.get_range(&name(), 0..1024).await.unwrap();
    }
    hedge.store.asked.store(0, Ordering::Relaxed);
    hedge
}

fn asked(hedge: &Hedge<Slow>) -> usize {
    hedge.store.asked.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn what_is_slow_is_asked_for_again_and_the_first_answer_counts() {
    let hedge = learnt(50).await;
    let began = Instant::now();
    hedge.store.next_answers(vec![(LONG, answer("slow")), (Duration::from_millis(5), answer("fast"))]);
    assert_eq!(hedge.get_range(&name(), 0..1024).await.unwrap(), "fast");
    assert_eq!((asked(&hedge), began.elapsed()), (2, PATIENCE_MIN + Duration::from_millis(5)));
}

#[tokio::test(start_paused = true)]
async fn until_it_is_known_what_is_usual_nothing_is_asked_twice() {
    let hedge = learnt(LEARNT_AFTER - 1).await;
    hedge.store.next_answers(vec![(LONG, answer("slow"))]);
    assert_eq!(hedge.get(&name()).await.unwrap(), "slow");
    assert_eq!(asked(&hedge), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_leaves_it_to_the_other() {
    for (first, second) in
        [((LONG, answer("first")), (LONG / 4, failed())), ((LONG / 4, failed()), (LONG, answer("second")))]
    {
        let hedge = learnt(50).await;
        hedge.store.next_answers(vec![first, second]);
        assert!(hedge.get(&name()).await.is_ok());
        assert_eq!(asked(&hedge), 2);
    }
    let hedge = learnt(50).await;
    hedge.store.next_answers(vec![(LONG, failed()), (LONG, failed())]);
    assert!(hedge.get(&name()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_fails_at_once_is_not_asked_for_again() {
    let hedge = learnt(50).await;
    hedge.store.next_answers(vec![(Duration::from_millis(5), failed())]);
    assert!(hedge.get(&name()).await.is_err());
    assert_eq!(asked(&hedge), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_as_a_whole_is_not_asked_twice_as_much() {
    let hedge = learnt(50).await;
    for _ in 0..200 {
        let both = vec![(LONG, answer("slow")), (LONG, answer("slow"))];
        hedge.store.next_answers(both);
        hedge.get(&name()).await.unwrap();
    }
    assert!(asked(&hedge) <= 200 + 13, "{}", asked(&hedge));
}

#[tokio::test(start_paused = true)]
async fn what_writes_or_lists_is_never_asked_twice() {
    let hedge = learnt(50).await;
    let slow = || vec![(LONG, answer("slow"))];
    hedge.store.next_answers(slow());
    hedge.create(&name(), Bytes::new()).await.unwrap();
    hedge.store.next_answers(slow());
    hedge.delete(&name()).await.unwrap();
    hedge.store.next_answers(slow());
    hedge.list("", None, 1).await.unwrap();
    assert_eq!(asked(&hedge), 3);
}
