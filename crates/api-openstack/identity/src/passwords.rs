//! Password hashes: argon2id at the cost that OWASP advises, on a bounded number of threads, so that log-ins never hold up other
//! requests.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use unkai_model::Error;

/// Longer passwords are refused, so that nobody buys our time with them.
pub const LONGEST: usize = 4096;

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Cost { memory_kib: 19 * 1024, passes: 2 }
    }
}

impl Cost {
    /// The least that the algorithm takes. For tests and simulations: no protection at all.
    pub fn none() -> Self {
        Cost { memory_kib: 8, passes: 1 }
    }

    /// A hash that no password has, at this cost: checking against it takes as long as checking against a real one.
    fn nobody(self) -> String {
        let Cost { memory_kib, passes } = self;
        let (salt, hash) = ("bm9ib2R5IGhhcyB0aGlzIQ", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        format!("$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${hash}")
    }

    fn hasher(self) -> Result<Argon2<'static>, Error> {
        let params =
            Params::new(self.memory_kib, self.passes, 1, None).map_err(|e| Error::internal(format!("choosing a hash cost: {e}")))?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }
}

/// How many may wait for their turn; more is somebody guessing, and is refused.
const LONGEST_QUEUE: usize = 1024;

pub struct Passwords {
    cost: Cost,
    turns: Arc<Semaphore>,
    queue: Semaphore,
}

impl Passwords {
    pub fn new(cost: Cost) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
        Passwords { cost, turns: Arc::new(Semaphore::new(cores)), queue: Semaphore::new(LONGEST_QUEUE) }
    }

    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        let (cost, password) = (self.cost, password.to_owned());
        self.turn(move || {
            let hash = cost.hasher()?.hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|e| Error::internal(format!("hashing a password: {e}")))
        })
        .await
    }

    /// Is `password` the one behind `hash`? Takes as long when there is no hash.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, Error> {
        if password.len() > LONGEST {
            return Ok(false);
        }
        let known = hash.is_some();
        let (password, hash) = (password.to_owned(), hash.map_or_else(|| self.cost.nobody(), str::to_owned));
        self.turn(move || {
            let hash = PasswordHash::new(&hash).map_err(|e| Error::internal(format!("reading a password hash: {e}")))?;
            Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && known)
        })
        .await
    }

    /// The permit goes with the work, so that a client which hangs up does not free a thread that is still hashing.
    async fn turn<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        let place = self.queue.try_acquire().map_err(|_| Error::unavailable("Too many log-ins are waiting. Try again later."))?;
        let permit = self.turns.clone().acquire_owned().await.map_err(|e| Error::caused("waiting for a turn to hash", e))?;
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.map_err(|e| Error::caused("hashing a password", e))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_verifies() {
        let passwords = Passwords::new(Cost::none());
        let hash = passwords.hash("one").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(passwords.verify("one", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("two", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("one", None).await.unwrap());
        assert_ne!(passwords.hash("one").await.unwrap(), hash, "salted");
    }

    #[tokio::test]
    async fn a_long_queue_is_closed() {
        let passwords = Passwords::new(Cost::none());
        let _all = passwords.turns.acquire_many(passwords.turns.available_permits() as u32).await.unwrap();
        let _full = passwords.queue.acquire_many(LONGEST_QUEUE as u32).await.unwrap();
        assert!(matches!(passwords.hash("x").await, Err(Error::Unavailable(_))));
    }

    /// With every turn taken by a hash that does not end, the one thread of this runtime still serves whatever else comes; and no more
    /// run than there are turns.
    #[tokio::test(flavor = "current_thread")]
    async fn hashing_leaves_the_runtime_to_others() {
        let passwords = Arc::new(Passwords::new(Cost::none()));
        let turns = passwords.turns.available_permits();
        let (started, mut running) = tokio::sync::mpsc::unbounded_channel();
        let gate = Arc::new(tokio::sync::RwLock::new(()));
        let closed = gate.write().await;
        let mut waiting = Vec::new();
        for _ in 0..turns + 50 {
            let (passwords, started, gate) = (passwords.clone(), started.clone(), gate.clone());
            waiting.push(tokio::spawn(async move {
                let work = move || {
                    let _ = started.send(std::thread::current().id());
                    drop(gate.blocking_read());
                    Ok(())
                };
                passwords.turn(work).await
            }));
        }
        for _ in 0..turns {
            assert_ne!(running.recv().await, Some(std::thread::current().id()), "a hash runs where requests are served");
        }
        // Everything that could start has been offered to the runtime many times over.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(running.try_recv().is_err(), "more hashes run than there are turns");
        assert_eq!(LONGEST_QUEUE - passwords.queue.available_permits(), 50, "the others wait");
        drop(closed);
        for task in waiting {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn the_hash_of_nobody_is_well_formed() {
        for cost in [Cost::none(), Cost::default()] {
            let hash = cost.nobody();
            assert!(PasswordHash::new(&hash).is_ok(), "{hash}");
        }
        assert!(!Passwords::new(Cost::default()).verify("", None).await.unwrap());
    }
}
