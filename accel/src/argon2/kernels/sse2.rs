//! The kernel for SSE2, which every x86-64 processor offers: two words at a time.

use std::arch::x86_64::{
    __m128i, _mm_add_epi64, _mm_castpd_si128, _mm_castsi128_pd, _mm_load_si128, _mm_mul_epu32, _mm_or_si128,
    _mm_shuffle_epi32, _mm_shuffle_pd, _mm_shufflehi_epi16, _mm_shufflelo_epi16, _mm_slli_epi64,
    _mm_srli_epi64, _mm_store_si128, _mm_xor_si128,
};

use super::{Block, Vector, compress_with, pairs_in_natural_order};

/// Use SSE2's instructions.
macro_rules! sse2 {
    ($use:expr) => {
        // SAFETY: SSE2 is part of x86-64; where there is a pointer, the caller vouches for 16 bytes of a
        // block behind it, and every vector of a block is aligned to its size.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Pair(__m128i);

impl Pair {
    /// Take the last word of this pair and the first of the next.
    #[inline(always)]
    unsafe fn straddle(self, next: Self) -> Self {
        sse2!(Self(_mm_castpd_si128(_mm_shuffle_pd::<1>(
            _mm_castsi128_pd(self.0),
            _mm_castsi128_pd(next.0)
        ))))
    }
}

impl Vector for Pair {
    const WORDS: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u64) -> Self {
        sse2!(Self(_mm_load_si128(at.cast())))
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u64) {
        sse2!(_mm_store_si128(at.cast(), self.0));
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        sse2!(Self(_mm_xor_si128(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self) -> Self {
        sse2!({
            let product = _mm_mul_epu32(self.0, other.0);
            Self(_mm_add_epi64(
                _mm_add_epi64(self.0, other.0),
                _mm_add_epi64(product, product),
            ))
        })
    }

    #[inline(always)]
    unsafe fn rotate_32(self) -> Self {
        sse2!(Self(_mm_shuffle_epi32::<0b10_11_00_01>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_24(self) -> Self {
        sse2!(Self(_mm_or_si128(
            _mm_srli_epi64::<24>(self.0),
            _mm_slli_epi64::<40>(self.0)
        )))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        sse2!(Self(_mm_shufflehi_epi16::<0b00_11_10_01>(_mm_shufflelo_epi16::<
            0b00_11_10_01,
        >(self.0))))
    }

    #[inline(always)]
    unsafe fn rotate_63(self) -> Self {
        sse2!(Self(_mm_xor_si128(
            _mm_srli_epi64::<63>(self.0),
            _mm_add_epi64(self.0, self.0)
        )))
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
