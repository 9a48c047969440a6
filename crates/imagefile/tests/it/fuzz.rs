//! Mutations and noise: nothing panics, nothing allocates without bound, and how bytes arrive makes no difference.
//!
//! `UNKAI_FUZZ_ITERATIONS` (default 400) and `UNKAI_FUZZ_SEED` (default 1) make longer and other runs. A failure names
//! the seed of its one iteration: run it again with that seed and one iteration.

use proptest::prelude::*;
use unkai_imagefile::{DiskFormat, Inspector, Policy, check};

use crate::memory::peak;
use crate::{builders as b, corpus, inspect_in};

/// What an inspection may need beyond what it keeps: growing vectors, a few problems.
const MEMORY: usize = 2 * Inspector::MEMORY + (256 << 10);

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const EDGES: [u64; 10] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 62, u64::MAX - 1, u64::MAX];

/// Most fields that matter are near the start; the rest are near the end or in the metadata of a VHDX.
fn place(random: &mut Random, len: usize) -> usize {
    match random.below(8) {
        0..=4 => random.below(len.min(640)),
        5 => len.saturating_sub(1 + random.below(2048)),
        6 => (b::META + random.below(70_000)).min(len.saturating_sub(1)),
        _ => random.below(len),
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = place(random, bytes.len());
    let value = if random.below(2) == 0 { random.next() } else { EDGES[random.below(EDGES.len())] };
    let value = if random.below(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
    match random.below(10) {
        0 => bytes.truncate(at),
        1 => bytes.extend(value),
        2..=4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value[0]),
        5..=7 => bytes.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = new),
        _ => bytes.iter_mut().skip(at).zip(value).take(4).for_each(|(byte, new)| *byte = new),
    }
}

/// How many sound images the seeds begin with.
const SOUND: usize = 10;

fn seeds() -> Vec<Vec<u8>> {
    let built = [b::raw(), b::qcow2(), b::qcow2_v2(), b::vmdk(), b::vmdk_stream(), b::vmdk_footer(), b::vhd(), b::vdi()];
    let mut seeds: Vec<_> = built.into_iter().chain([b::vhdx(), b::iso()]).map(|image| image.0).collect();
    seeds.extend(corpus::images().into_iter().map(|(_, bytes)| bytes).filter(|bytes| bytes.len() < 512 << 10));
    seeds
}

fn one(random: &mut Random, seeds: &[Vec<u8>]) {
    // Half of the time a sound image, which come first: mutations of it go deeper.
    let choices = if random.below(2) == 0 { SOUND } else { seeds.len() };
    let mut bytes = seeds[random.below(choices)].clone();
    for _ in 0..=random.below(6) {
        mutate(random, &mut bytes);
    }
    holds(&bytes, [1 + random.below(5000), 1 + random.below(200_000)]);
}

/// What must hold for any bytes at all.
fn holds(bytes: &[u8], sizes: [usize; 2]) {
    let policy = Policy::default();
    let (whole, used) = peak(|| inspect_in(bytes, &[usize::MAX], &policy));
    assert!(used < MEMORY, "{used} bytes of memory");
    assert_eq!(inspect_in(bytes, &sizes, &policy), whole, "in chunks of {sizes:?}");
    assert!(whole.problems.len() < 4096);
    for declared in DiskFormat::ALL {
        if let Ok(accepted) = check(declared, &whole) {
            assert!(accepted.virtual_size() <= policy.max_virtual_size);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn mutations() {
    let iterations = number("UNKAI_FUZZ_ITERATIONS", 400);
    let first = number("UNKAI_FUZZ_SEED", 1);
    let seeds = seeds();
    for seed in first..first.saturating_add(iterations) {
        let result = std::panic::catch_unwind(|| one(&mut Random(seed), &seeds));
        assert!(result.is_ok(), "failed: UNKAI_FUZZ_SEED={seed} UNKAI_FUZZ_ITERATIONS=1");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise(bytes in proptest::collection::vec(any::<u8>(), 0..5000), magic in 0_usize..8) {
        let magics: [&[u8]; 8] = [
            b"", b"QFI\xfb\0\0\0\x03", b"QFI\xfb\0\0\0\x02", b"KDMV", b"conectix", b"vhdxfile", b"# Disk DescriptorFile\n", b"LUKS",
        ];
        let mut bytes = bytes;
        let len = magics[magic].len().min(bytes.len());
        bytes[..len].copy_from_slice(&magics[magic][..len]);
        holds(&bytes, [1, 511]);
    }
}
