//! What is measured of this process, and of many short times.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// Processor time of this process, by the system's account of all its threads.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("reading this process's use of processors")?;
    let times = [usage.user_time(), usage.system_time()];
    Ok(times.iter().map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)).sum())
}

/// MiB of this process in memory, now and at most.
pub fn memory() -> Result<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading `/proc/self/status`")?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    let kib = |name: &str| line(name).with_context(|| format!("`/proc/self/status` has no {name}"));
    Ok((kib("VmRSS:")? >> 10, kib("VmHWM:")? >> 10))
}

/// From here on.
pub struct Meter {
    began: Instant,
    processor: Duration,
}

impl Meter {
    pub fn start() -> Result<Self> {
        Ok(Meter { began: Instant::now(), processor: processor_time()? })
    }

    /// Time that passed, and processor time that this process took.
    pub fn read(&self) -> Result<(Duration, Duration)> {
        Ok((self.began.elapsed(), processor_time()? - self.processor))
    }
}

/// Times, to be sorted.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that so many of 100 do not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        self.0.get((self.0.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    pub fn summary(&mut self) -> String {
        self.0.sort_unstable();
        let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
        let longest = self.0.last().copied().unwrap_or_default();
        format!("p50 {}, p99 {}, longest {}", millis(self.percentile(50)), millis(self.percentile(99)), millis(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_added() {
        let mut times = Times::default();
        assert_eq!(times.summary(), "p50 0.00 ms, p99 0.00 ms, longest 0.00 ms");
        (1..=200).rev().for_each(|n| times.add(Duration::from_millis(n)));
        assert_eq!(times.summary(), "p50 100.00 ms, p99 198.00 ms, longest 200.00 ms");
    }

    #[test]
    fn work_is_measured() {
        let meter = Meter::start().unwrap();
        let mut sum = 0u64;
        while meter.began.elapsed() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let (passed, processor) = meter.read().unwrap();
        assert!(passed >= Duration::from_millis(50) && !processor.is_zero(), "{passed:?} {processor:?}");
        let (now, most) = memory().unwrap();
        assert!(now > 0 && most >= now);
    }
}
