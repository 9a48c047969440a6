//! A transaction's body on its way to the writer and its answer on the way back, with their types erased.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;
use unkai_model::Error;

use crate::tx::Tx;

pub(crate) trait Job: Send {
    /// Runs the body; false when it refused, and then nothing of it may be kept.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// Something failed after the body succeeded.
    fn refuse(&mut self, error: Error);
    /// Everything is decided and durable: answer the caller.
    fn answer(self: Box<Self>);
}

struct TypedJob<F, T, E> {
    body: F,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

pub(crate) fn job<F, T, E>(body: F, answer: oneshot::Sender<Result<T, E>>) -> Box<dyn Job>
where
    F: FnMut(&mut Tx) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    Box::new(TypedJob { body, result: None, answer })
}

impl<F, T, E> Job for TypedJob<F, T, E>
where
    F: FnMut(&mut Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &mut Tx) -> bool {
        // The transaction keeps what it needs to be undone, and changes state only in steps that do not call foreign code.
        let result = catch_unwind(AssertUnwindSafe(|| (self.body)(tx)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("a transaction panicked").into()));
        let ok = result.is_ok();
        self.result = Some(result);
        ok
    }

    fn refuse(&mut self, error: Error) {
        self.result = Some(Err(error.into()));
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // A caller that went away does not want the answer; what was committed stays committed.
            let _ = self.answer.send(result);
        }
    }
}
