//! What is set for the cloud as a whole: one document, written by operators. Absent, the defaults hold.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Id, Kind, Meta};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub meta: Meta<Settings>,
    #[serde(default)]
    pub availability: AvailabilitySettings,
    /// A server made from an image, with nothing said about its disks, starts from a volume made of it.
    #[serde(default)]
    pub boot_from_volume: bool,
}

/// How the loss of a host is found out and what is kept for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AvailabilitySettings {
    /// Silence after which a host is fenced.
    pub silence_ms: u64,
    /// How long a host may run highly available servers without being heard. When controllers stay away longer, it stops them.
    pub lease_ms: u64,
    /// The lease before the last change, for as long as one could still be out.
    pub lease_before_ms: u64,
    pub lease_changed: Timestamp,
    /// Room is kept so that every highly available server can be started elsewhere when one of these dies; none: no room is kept.
    pub reserve: Option<Domain>,
    /// A highly available server that no room can be kept for is not placed.
    pub strict: bool,
}

/// What dies at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    Host,
    /// The hosts of an aggregate with [`crate::compute::RACK_KEY`] in its metadata.
    Rack,
    /// An availability zone.
    Zone,
}

impl Default for AvailabilitySettings {
    fn default() -> Self {
        AvailabilitySettings {
            silence_ms: 5_000,
            lease_ms: 8_000,
            lease_before_ms: 0,
            lease_changed: Timestamp::UNIX_EPOCH,
            reserve: Some(Domain::Host),
            strict: false,
        }
    }
}

/// Bounds of what can be set: beats are two seconds apart, and a day without a controller is not a short failure.
const SHORTEST_MS: u64 = 2_000;
const LONGEST_MS: u64 = 24 * 3600 * 1000;

impl AvailabilitySettings {
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long a lease that somebody holds now can last: the longest that was given lately, on a clock that runs 1 % slow, and a margin.
    pub fn longest_lease(&self, now: Timestamp) -> Duration {
        let before = Duration::from_millis(self.lease_before_ms);
        let may_be_out = now.duration_since(self.lease_changed).unsigned_abs() <= before.mul_f64(1.01) + MARGIN;
        let longest = if may_be_out { self.lease().max(before) } else { self.lease() };
        longest.mul_f64(1.01) + MARGIN
    }

    /// Changes the times; a refusal in words.
    pub fn set(&mut self, silence_ms: Option<u64>, lease_ms: Option<u64>, now: Timestamp) -> Result<(), String> {
        for (what, value) in [("silence", silence_ms), ("lease", lease_ms)] {
            if value.is_some_and(|value| !(SHORTEST_MS..=LONGEST_MS).contains(&value)) {
                return Err(format!("the {what} must be between {SHORTEST_MS} ms and {LONGEST_MS} ms"));
            }
        }
        self.silence_ms = silence_ms.unwrap_or(self.silence_ms);
        if let Some(lease_ms) = lease_ms.filter(|lease_ms| *lease_ms != self.lease_ms) {
            self.lease_before_ms = u64::try_from(self.longest_lease(now).as_millis()).unwrap_or(LONGEST_MS);
            self.lease_ms = lease_ms;
            self.lease_changed = now;
        }
        Ok(())
    }
}

const MARGIN: Duration = Duration::from_millis(250);

impl Settings {
    pub fn the_id() -> Id<Settings> {
        Id::new("cloud")
    }

    /// With every default.
    pub fn standard() -> Self {
        Settings { meta: Meta::new(Self::the_id()), availability: AvailabilitySettings::default(), boot_from_volume: false }
    }
}

impl Kind for Settings {
    const NAME: &'static str = "settings";
    crate::meta_accessors!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_shorter_lease_counts_only_when_the_longer_ones_have_run_out() {
        let mut settings = AvailabilitySettings { lease_ms: 60_000, ..Default::default() };
        settings.set(None, Some(5_000), at(1_000)).unwrap();
        assert!(settings.longest_lease(at(1_001)) > Duration::from_secs(60));
        assert!(settings.longest_lease(at(1_050)) > Duration::from_secs(60));
        assert!(settings.longest_lease(at(1_070)) < Duration::from_secs(6));
        // A second change keeps the first in mind.
        settings.set(None, Some(4_000), at(1_001)).unwrap();
        assert!(settings.longest_lease(at(1_030)) > Duration::from_secs(60));
    }

    #[test]
    fn times_out_of_bounds_are_refused_and_change_nothing() {
        let mut settings = AvailabilitySettings::default();
        assert!(settings.set(Some(1), None, at(1)).is_err());
        assert!(settings.set(None, Some(LONGEST_MS + 1), at(1)).is_err());
        assert_eq!(settings, AvailabilitySettings::default());
    }
}
