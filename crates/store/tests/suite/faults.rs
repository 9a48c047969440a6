//! A faulty engine: what happens to callers and readers when commits fail, or end without anybody knowing how.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unkai_model::Error;
use unkai_store::engine::{Batch, CommitError, Engine, News, StoredRow};
use unkai_store::{Changes, Revision, Store, Tx};

use crate::beds::{Bed, open, run};
use crate::kinds::{Item, item};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Fine,
    /// The engine cannot be reached.
    Begin,
    /// The commit fails and nothing is written.
    Fails,
    /// It is written, but the answer is lost.
    AnswerLost,
    /// It is not written, and that is not known either.
    RequestLost,
    /// As the two before, and for a while nobody can find out.
    AnswerLostForLong,
    RequestLostForLong,
}

/// Does what the plan says, one entry per commit (or begin); then all is fine.
struct Faulty {
    engine: Box<dyn Engine>,
    plan: Arc<Mutex<VecDeque<Fault>>>,
    doubt: Option<bool>,
    lost: bool,
}

impl Faulty {
    fn next(&self) -> Fault {
        self.plan.lock().unwrap().pop_front().unwrap_or(Fault::Fine)
    }
}

fn error() -> Error {
    Error::internal("planned")
}

impl Engine for Faulty {
    fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }
    fn load(&mut self, each: &mut dyn FnMut(StoredRow) -> Result<(), Error>) -> Result<Revision, Error> {
        self.engine.load(each)
    }
    fn begin(&mut self, seen: Revision, to_write: bool) -> Result<News, Error> {
        if self.plan.lock().unwrap().front() == Some(&Fault::Begin) {
            self.next();
            return Err(error());
        }
        self.engine.begin(seen, to_write)
    }
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let fault = self.next();
        match fault {
            Fault::Fine | Fault::Begin => return self.engine.commit(batch),
            Fault::Fails => {
                self.engine.abandon();
                return Err(CommitError::Failed(error()));
            }
            Fault::AnswerLost | Fault::AnswerLostForLong => self.engine.commit(batch)?,
            Fault::RequestLost | Fault::RequestLostForLong => self.engine.abandon(),
        }
        self.lost = matches!(fault, Fault::AnswerLostForLong | Fault::RequestLostForLong);
        self.doubt = Some(matches!(fault, Fault::AnswerLost | Fault::AnswerLostForLong));
        Err(CommitError::Unknown(error()))
    }
    fn abandon(&mut self) {
        self.engine.abandon();
    }
    fn resolve(&mut self) -> Result<bool, Error> {
        if self.lost { Err(error()) } else { Ok(self.doubt.take().expect("only asked in doubt")) }
    }
    fn patience(&self) -> Duration {
        Duration::from_millis(120)
    }
}

fn faulty(bed: &Bed, plan: &[Fault]) -> (Store, Arc<Mutex<VecDeque<Fault>>>) {
    let plan = Arc::new(Mutex::new(plan.iter().copied().collect::<VecDeque<_>>()));
    let engine = Faulty { engine: bed.engine(), plan: plan.clone(), doubt: None, lost: false };
    (open(Box::new(engine)), plan)
}

async fn insert(store: &Store, id: &'static str) -> Result<(), Error> {
    store.transact(move |tx: &mut Tx| tx.insert(Item::new(id).claiming(id)).map(drop)).await
}

fn beds() -> Vec<Bed> {
    let postgres = crate::postgres::Database::create().map(Bed::Postgres);
    [Bed::Memory, Bed::sqlite()].into_iter().chain(postgres).collect()
}

#[test]
fn a_commit_that_fails_is_run_again() {
    for bed in beds() {
        run(async {
            let (store, _) = faulty(&bed, &[Fault::Fails, Fault::Fails, Fault::Fine]);
            insert(&store, "a").await.unwrap();
            assert_eq!((store.view().count::<Item>(), store.view().revision()), (1, 1));
        });
    }
}

#[test]
fn a_commit_that_keeps_failing_changes_nothing() {
    for bed in beds() {
        run(async {
            let (store, plan) = faulty(&bed, &[]);
            insert(&store, "a").await.unwrap();
            plan.lock().unwrap().extend([Fault::Fails; 3]);
            let mut watch = store.watch();
            assert!(matches!(insert(&store, "b").await, Err(Error::Unavailable(_))));
            let view = store.view();
            assert_eq!((view.count::<Item>(), view.revision(), view.check()), (1, 1, vec![]));
            assert!(tokio::time::timeout(Duration::from_millis(20), watch.next()).await.is_err(), "nothing is shown");
            insert(&store, "b").await.expect("and it can be done again");
        });
    }
}

#[test]
fn an_engine_out_of_reach_stops_writers_and_not_readers() {
    run(async {
        let (store, plan) = faulty(&Bed::Memory, &[]);
        insert(&store, "a").await.unwrap();
        plan.lock().unwrap().push_back(Fault::Begin);
        assert!(matches!(insert(&store, "b").await, Err(Error::Unavailable(_))));
        assert_eq!(store.read().await.unwrap().count::<Item>(), 1);
        insert(&store, "b").await.unwrap();
    });
}

#[test]
fn lost_answers_and_requests_are_found_out() {
    for bed in beds() {
        run(async {
            let (store, _) = faulty(&bed, &[Fault::AnswerLost, Fault::RequestLost, Fault::Fine]);
            insert(&store, "a").await.expect("it was committed, and that was found out");
            insert(&store, "b").await.expect("it was not committed, and was run again");
            let view = store.view();
            assert_eq!((view.count::<Item>(), view.revision(), view.check()), (2, 2, vec![]));
            assert_eq!(view.get(&item("b")).unwrap().meta.version, 1, "once");
        });
    }
}

#[test]
fn an_outcome_that_stays_unknown_is_called_that() {
    for (fault, there) in [(Fault::AnswerLostForLong, 1), (Fault::RequestLostForLong, 0)] {
        for bed in beds() {
            run(async {
                let (store, _) = faulty(&bed, &[fault]);
                let mut watch = store.watch();
                let result = insert(&store, "a").await;
                assert!(matches!(&result, Err(Error::Internal { context, .. }) if context.contains("unknown")), "{result:?}");
                assert_eq!(store.view().count::<Item>(), 0, "nothing unacknowledged is shown");
                insert(&store, "b").await.expect("the next one finds the truth");
                let view = store.view();
                assert_eq!((view.count::<Item>(), view.check()), (there + 1, vec![]));
                let (_, changes) = watch.next().await.unwrap();
                assert!(matches!(changes, Changes::TooOld) || matches!(changes, Changes::Since(c) if c.len() <= there + 1));
                if !matches!(bed, Bed::Memory) {
                    store.stop().await;
                    assert_eq!(bed.open().view().count::<Item>(), there + 1);
                }
            });
        }
    }
}

/// Whatever fails, an acknowledged write is there after a restart, a refused one is not, and what readers saw was acknowledged.
#[test]
fn no_fault_loses_or_invents() {
    let faults = [Fault::Fine, Fault::Fails, Fault::AnswerLost, Fault::RequestLost, Fault::Begin];
    for bed in beds().into_iter().skip(1) {
        run(async {
            let plan: Vec<Fault> = (0..60usize).map(|n| faults[n * n * 7 % 11 % faults.len()]).collect();
            let (store, _) = faulty(&bed, &plan);
            let mut expected = Vec::new();
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..60 {
                let store = store.clone();
                tasks.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(n * 2)).await;
                    let id = format!("{n:02}");
                    let result = store
                        .transact({
                            let id = id.clone();
                            move |tx: &mut Tx| tx.insert(Item::new(&id)).map(drop)
                        })
                        .await;
                    assert_eq!(store.view().get(&item(&id)).is_some(), result.is_ok());
                    (id, result.is_ok())
                });
            }
            expected.extend(tasks.join_all().await.into_iter().filter(|(_, ok)| *ok).map(|(id, _)| id));
            expected.sort();
            store.stop().await;
            let found: Vec<_> = bed.open().view().all::<Item>().map(|it| it.meta.id.to_string()).collect();
            assert_eq!(found, expected);
        });
    }
}
