//! The kernel for NEON, which every 64-bit ARM processor offers: two words at a time.

use std::arch::aarch64::{
    uint64x2_t, vaddq_u64, veorq_u64, vextq_u64, vld1q_u64, vmovn_u64, vmull_u32, vreinterpretq_u32_u64,
    vreinterpretq_u64_u32, vrev64q_u32, vshlq_n_u64, vsriq_n_u64, vst1q_u64,
};

use super::{Block, Vector, compress_with, pairs_in_natural_order};

/// Use NEON's instructions.
macro_rules! neon {
    ($use:expr) => {
        // SAFETY: NEON is part of every target this file is compiled for; where there is a pointer, the
        // caller vouches for 16 bytes behind it.
        #[allow(unused_unsafe)] // newer compilers take those without a pointer as safe here
        unsafe {
            $use
        }
    };
}

#[derive(Clone, Copy)]
struct Pair(uint64x2_t);

impl Pair {
    /// Take the last word of this pair and the first of the next.
    #[inline(always)]
    unsafe fn straddle(self, next: Self) -> Self {
        neon!(Self(vextq_u64::<1>(self.0, next.0)))
    }
}

impl Vector for Pair {
    const WORDS: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u64) -> Self {
        neon!(Self(vld1q_u64(at)))
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u64) {
        neon!(vst1q_u64(at, self.0));
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        neon!(Self(veorq_u64(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self) -> Self {
        neon!({
            let product = vmull_u32(vmovn_u64(self.0), vmovn_u64(other.0));
            Self(vaddq_u64(vaddq_u64(self.0, other.0), vaddq_u64(product, product)))
        })
    }

    #[inline(always)]
    unsafe fn rotate_32(self) -> Self {
        neon!(Self(vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(
            self.0
        )))))
    }

    #[inline(always)]
    unsafe fn rotate_24(self) -> Self {
        neon!(Self(vsriq_n_u64::<24>(vshlq_n_u64::<40>(self.0), self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        neon!(Self(vsriq_n_u64::<16>(vshlq_n_u64::<48>(self.0), self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_63(self) -> Self {
        neon!(Self(vsriq_n_u64::<63>(vaddq_u64(self.0, self.0), self.0)))
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
    // SAFETY: as the caller's.
    unsafe { compress_with::<Pairs, 2>(previous, reference, target, over) }
}
