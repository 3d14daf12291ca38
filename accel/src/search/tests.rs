//! Searches against another implementation of BLAKE3.

use super::*;
use proptest::prelude::*;

fn first_four(string: &[u8], n: u32) -> u32 {
    let digest = blake3::Hasher::new()
        .update(string)
        .update(&n.to_le_bytes())
        .finalize();
    u32::from_be_bytes(digest.as_bytes()[..4].try_into().expect("4 bytes"))
}

fn string(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64)
        .map(|i| (i.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn smallest(string: &[u8], bits: u32, candidates: u64) -> Option<u32> {
    (0..candidates)
        .map(|n| n as u32)
        .find(|&n| first_four(string, n) >> (32 - bits) == 0)
}

fn find(kernel: KernelName, string: &[u8], bits: u32, candidates: u64, threads: usize) -> Option<u32> {
    search(
        kernel,
        string,
        Bits(bits),
        0..candidates,
        threads,
        &Job::default(),
    )
    .expect("not cancelled")
}

/// Every length gives the digest of its bytes, whatever blocks, chunks and subtrees the number falls into.
#[test]
#[cfg_attr(miri, ignore = "long")]
fn all_lengths() {
    for length in 0..5200 {
        let string = string(length, 7);
        for n in [0, 1, 0x0102_0304, u32::MAX] {
            assert_eq!(
                Message::new(&string).first_word(n).swap_bytes(),
                first_four(&string, n),
                "{length} {n}"
            );
        }
    }
}

/// Every kernel finds the same number at every length.
#[test]
#[cfg_attr(miri, ignore = "long")]
fn all_lengths_in_every_kernel() {
    for length in (0..200)
        .chain((1000..1100).chain(2030..2130))
        .chain((3000..5200).step_by(7))
    {
        let string = string(length, 3);
        let expected = smallest(&string, 5, CANDIDATES);
        for name in KernelName::all_offered() {
            assert_eq!(find(name, &string, 5, CANDIDATES, 1), expected, "{length} {name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: if cfg!(miri) { 3 } else { 200 }, ..ProptestConfig::default() })]

    /// Every kernel finds the smallest number, or that there is none below the bound.
    #[test]
    fn smallest_in_every_kernel(
        length in 0_usize..1500, seed: u64, bits in 1_u32..12, candidates in 0_u64..3000, threads in 1_usize..4,
    ) {
        let string = string(length, seed);
        let candidates = if cfg!(miri) { candidates % 8 } else { candidates };
        let expected = smallest(&string, bits, candidates);
        for name in KernelName::all_offered() {
            prop_assert_eq!(find(name, &string, bits, candidates, threads), expected, "{}", name);
        }
        if let Some(n) = expected {
            prop_assert!(holds(&string, n, Bits(bits)));
            prop_assert_eq!(holds(&string, n + 1, Bits(bits)), first_four(&string, n + 1) >> (32 - bits) == 0);
        }
    }
}

/// Threads find the smallest number, also in batches behind those that one thread tries alone.
#[test]
#[cfg_attr(miri, ignore = "long")]
fn threads() {
    for seed in 0..20 {
        let string = string(110, seed);
        let n = find(KernelName::Portable, &string, 16, CANDIDATES, 1);
        for threads in 2..5 {
            assert_eq!(find(KernelName::Portable, &string, 16, CANDIDATES, threads), n);
        }
        let n = n.expect("one in 2**32");
        assert_eq!(find(KernelName::Portable, &string, 16, n.into(), 3), None);
        assert_eq!(
            find(KernelName::Portable, &string, 16, u64::from(n) + 1, 3),
            Some(n)
        );
    }
}

/// The candidates tried are counted, and a cancelled job ends in an error.
#[test]
#[cfg_attr(miri, ignore = "long")]
fn watched() {
    let job = Job::default();
    assert_eq!(
        search(KernelName::Portable, b"string", Bits(32), 0..100_000, 2, &job),
        Ok(None)
    );
    assert_eq!(job.tried(), 100_000);
    std::thread::scope(|scope| {
        let long = scope.spawn(|| search(KernelName::Portable, b"string", Bits(32), 0..CANDIDATES, 2, &job));
        std::thread::sleep(std::time::Duration::from_millis(20));
        job.cancel();
        assert_eq!(long.join().expect("no panic"), Err(Cancelled));
    });
    assert!(job.tried() < CANDIDATES);
    assert_eq!(
        search(KernelName::Portable, b"string", Bits(1), 0..CANDIDATES, 1, &job),
        Err(Cancelled)
    );
}

/// Bits are 1 to 32; the mask has that many.
#[test]
fn bits() {
    assert!(Bits::new(0).is_err() && Bits::new(33).is_err());
    assert_eq!(Bits::new(32).map(Bits::mask), Ok(u32::MAX));
    assert_eq!(Bits::new(1).map(Bits::mask), Ok(0x80));
    assert_eq!(Bits::new(12).map(Bits::mask), Ok(0xf0ff));
}
