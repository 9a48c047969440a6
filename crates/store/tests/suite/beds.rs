//! Where a store can live: the engines that every case runs on.

use std::sync::Arc;

use unkai_store::engine::Engine;
use unkai_store::engine::postgres::Postgres;
use unkai_store::engine::sqlite::Sqlite;
use unkai_store::{Store, System};

use crate::kinds;
use crate::postgres::Database;

pub enum Bed {
    Memory,
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Bed {
    pub fn sqlite() -> Self {
        Bed::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn engine(&self) -> Box<dyn Engine> {
        match self {
            Bed::Memory => Box::new(Sqlite::in_memory().unwrap()),
            Bed::Sqlite(dir) => Box::new(Sqlite::open(&dir.path().join("store.db")).unwrap()),
            Bed::Postgres(database) => Box::new(Postgres::new(&database.url).unwrap()),
        }
    }

    pub fn open(&self) -> Store {
        open(self.engine())
    }
}

pub fn open(engine: Box<dyn Engine>) -> Store {
    Store::open_with(engine, kinds::registry(), Arc::new(System)).expect("the store opens")
}

/// Runs a case as a program would: on a runtime with several threads.
pub fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(case);
}

/// Makes one test per case and engine.
#[macro_export]
macro_rules! on_engines {
    (memory: [$($memory:ident),* $(,)?], durable: [$($durable:ident),* $(,)?]) => {
        mod memory {
            $( #[test] fn $memory() { $crate::beds::run(super::$memory(&$crate::beds::Bed::Memory)) } )*
        }
        mod sqlite {
            $( #[test] fn $memory() { $crate::beds::run(super::$memory(&$crate::beds::Bed::sqlite())) } )*
            $( #[test] fn $durable() { $crate::beds::run(super::$durable(&$crate::beds::Bed::sqlite())) } )*
        }
        mod postgres {
            use $crate::beds::{Bed, run};
            use $crate::postgres::Database;
            $( #[test] fn $memory() { if let Some(db) = Database::create() { run(super::$memory(&Bed::Postgres(db))) } } )*
            $( #[test] fn $durable() { if let Some(db) = Database::create() { run(super::$durable(&Bed::Postgres(db))) } } )*
        }
    };
}
