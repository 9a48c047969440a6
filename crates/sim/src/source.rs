//! Time and chance of a simulation: the runtime's clock, which may be paused, and one seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use unkai_store::Source;

/// A generator whose whole state is its seed (SplitMix64, Steele, Lea and Flood 2014).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. The bias is far below what a simulation could notice.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The source of everything that one simulated cloud draws.
pub struct Simulated {
    began: Instant,
    chance: Mutex<Chance>,
    /// What was added to the time of day, in milliseconds.
    stepped: AtomicI64,
}

impl Simulated {
    /// Within a runtime, whose clock it follows.
    pub fn new(seed: u64) -> Self {
        Simulated { began: Instant::now(), chance: Mutex::new(Chance::new(seed)), stepped: AtomicI64::new(0) }
    }

    /// Somebody sets the time of day.
    pub fn step(&self, millis: i64) {
        self.stepped.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Source for Simulated {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX);
        let stepped = SignedDuration::from_millis(self.stepped.load(Ordering::Relaxed));
        Timestamp::from_second(1_700_000_000).expect("a year in range") + elapsed + stepped
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut chance = self.chance.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&chance.draw().to_le_bytes()[..chunk.len()]);
        }
    }
}
