//! The kernel for any processor: two words at a time, written so that a compiler sees the vectors.

use super::{Block, Vector, compress_with, pairs_in_natural_order};

#[derive(Clone, Copy)]
struct Pair([u64; 2]);

impl Pair {
    #[inline(always)]
    fn each(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }

    /// Take the last word of this pair and the first of the next.
    #[inline(always)]
    unsafe fn straddle(self, next: Self) -> Self {
        Self([self.0[1], next.0[0]])
    }
}

impl Vector for Pair {
    const WORDS: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u64) -> Self {
        // SAFETY: the caller vouches for two words at `at`.
        unsafe { Self(at.cast::<[u64; 2]>().read()) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u64) {
        // SAFETY: the caller vouches for two words at `at`.
        unsafe { at.cast::<[u64; 2]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self.each(other, |x, y| x ^ y)
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self) -> Self {
        const LOW: u64 = 0xffff_ffff;
        self.each(other, |x, y| {
            x.wrapping_add(y).wrapping_add(((x & LOW) * (y & LOW)) << 1)
        })
    }

    #[inline(always)]
    unsafe fn rotate_32(self) -> Self {
        Self(self.0.map(|x| x.rotate_right(32)))
    }

    #[inline(always)]
    unsafe fn rotate_24(self) -> Self {
        Self(self.0.map(|x| x.rotate_right(24)))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        Self(self.0.map(|x| x.rotate_right(16)))
    }

    #[inline(always)]
    unsafe fn rotate_63(self) -> Self {
        Self(self.0.map(|x| x.rotate_right(63)))
    }
}

struct Pairs;
pairs_in_natural_order!(Pairs, Pair);

/// # Safety
///
/// As for `super::Compress`.
pub(super) unsafe fn compress(
    previous: *const Block,
    reference: *const Block,
    target: *mut Block,
    over: bool,
) {
    // SAFETY: as the caller's; no instruction is needed that a processor may lack.
    unsafe { compress_with::<Pairs, 2>(previous, reference, target, over) }
}
