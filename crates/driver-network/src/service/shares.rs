//! What one guest may take of a service at once, so that it cannot use up what its neighbours need.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Guests remembered before those that hold nothing are forgotten.
const REMEMBERED: usize = 1024;

#[derive(Debug)]
pub struct Shares {
    each: usize,
    all: Arc<Semaphore>,
    of: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// Given back when dropped.
#[derive(Debug)]
pub struct Share {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

impl Shares {
    pub fn new(each: usize, all: usize) -> Self {
        Self { each, all: Arc::new(Semaphore::new(all)), of: Mutex::default() }
    }

    /// Nothing when the guest, or everybody together, has too much already.
    pub fn take(&self, guest: IpAddr) -> Option<Share> {
        let own = {
            let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            if of.len() >= REMEMBERED {
                of.retain(|_, left| left.available_permits() < self.each);
            }
            of.entry(guest).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
        };
        Some(Share { _own: own.try_acquire_owned().ok()?, _common: self.all.clone().try_acquire_owned().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guest_cannot_take_everything() {
        let shares = Shares::new(2, 3);
        let guest = |n: u8| IpAddr::from([10, 0, 0, n]);
        let first = [shares.take(guest(1)), shares.take(guest(1))];
        assert!(first.iter().all(Option::is_some));
        assert!(shares.take(guest(1)).is_none(), "its own share is used up");
        let other = shares.take(guest(2));
        assert!(other.is_some());
        assert!(shares.take(guest(3)).is_none(), "all together have enough");
        drop(first);
        assert!(shares.take(guest(1)).is_some());
    }

    #[test]
    fn idle_guests_are_forgotten() {
        let shares = Shares::new(1, 10);
        let busy = shares.take(IpAddr::from([10, 1, 0, 0]));
        for n in 0..3 * REMEMBERED as u32 {
            drop(shares.take(IpAddr::from(n.to_be_bytes())));
        }
        assert!(shares.of.lock().unwrap().len() <= REMEMBERED);
        assert!(busy.is_some() && shares.take(IpAddr::from([10, 1, 0, 0])).is_none());
    }
}
