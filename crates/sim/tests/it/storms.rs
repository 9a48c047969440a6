//! Many storms; a seed that broke a promise stays here by name.

use std::time::Duration;

use unkai_sim::storm::{Plan, mix, run_alone};

fn plan(storm: &str, seed: u64) -> Plan {
    let mix = mix::find(storm).unwrap().mix;
    Plan { hosts: 4, servers: 8, seed, mix, lasts: Duration::from_secs(120) }
}

/// Runs seeds on two threads.
fn weather(storm: &'static str, seeds: std::ops::Range<u64>) {
    let half = seeds.start + (seeds.end - seeds.start) / 2;
    let run = move |seeds: std::ops::Range<u64>| {
        let mut sums = [0; 4];
        for seed in seeds {
            let outcome = run_alone(plan(storm, seed));
            assert!(outcome.broken.is_empty(), "{storm}, seed {seed}: {outcome}\n{}", outcome.broken.join("\n"));
            let counts = [outcome.failures, outcome.failovers, outcome.volumes, outcome.moved_volumes];
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        sums
    };
    let other = std::thread::spawn(move || run(half..seeds.end));
    let (a, b) = (run(seeds.start..half), other.join().unwrap());
    let [failures, failovers, volumes, moved] = std::array::from_fn(|n| a[n] + b[n]);
    println!("{storm}: {failures} failures, {failovers} failovers, {volumes} volumes in use, {moved} moved");
    // A storm in which nothing happens proves nothing.
    let happens = storm != "calm";
    assert_eq!((failures > 0, failovers > 0, volumes > 0, moved > 0), (happens, happens, true, happens));
}

#[test]
fn nothing_breaks_when_nothing_fails() {
    weather("calm", 0..4);
}

#[test]
fn machines_that_lose_power_cost_no_highly_available_server() {
    weather("power", 0..12);
}

#[test]
fn partitions_make_nothing_run_twice() {
    weather("partition", 0..12);
}

#[test]
fn controllers_die_and_come_back() {
    weather("controllers", 0..12);
}

#[test]
fn slow_disks_make_nothing_wrong() {
    weather("slow", 0..12);
}

#[test]
fn clocks_may_run_wrong_by_one_in_a_hundred() {
    weather("clocks", 0..12);
}

#[test]
fn words_may_come_late_and_twice() {
    weather("echo", 0..12);
}

#[test]
fn what_was_stopped_does_no_harm_when_it_goes_on() {
    weather("stopped", 0..12);
}

#[test]
fn everything_fails() {
    weather("everything", 0..16);
}

/// The same storm again is the same to the last write.
#[test]
fn one_seed_is_one_storm() {
    for storm in ["stopped", "everything"] {
        assert_eq!(run_alone(plan(storm, 7)), run_alone(plan(storm, 7)), "{storm}");
    }
    assert_ne!(run_alone(plan("everything", 7)), run_alone(plan("everything", 8)));
}
