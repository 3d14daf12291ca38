//! The kernel for AVX-512: eight words at a time, the whole block in half of the registers.
//!
//! A vector holds the words that differ in `r0`, `c0` and `e`, and a quad is one vector: two rows side by
//! side in a row round, two columns in turn word by word in a column round.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_load_si512, _mm512_mul_epu32, _mm512_permutex_epi64,
    _mm512_permutexvar_epi64, _mm512_ror_epi64, _mm512_setr_epi64, _mm512_shuffle_i64x2, _mm512_store_si512,
    _mm512_xor_si512,
};

use super::{Block, Shape, Vector, compress_with};

/// Use AVX-512's instructions.
macro_rules! avx512 {
    ($use:expr) => {
        // SAFETY: the caller vouches for AVX-512 and, where there is a pointer, for 64 bytes of a block
        // behind it; every vector of a block is aligned to its size.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Eight(__m512i);

impl Vector for Eight {
    const WORDS: usize = 8;

    #[inline(always)]
    unsafe fn load(at: *const u64) -> Self {
        avx512!(Self(_mm512_load_si512(at.cast())))
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u64) {
        avx512!(_mm512_store_si512(at.cast(), self.0));
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        avx512!(Self(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self) -> Self {
        avx512!({
            let product = _mm512_mul_epu32(self.0, other.0);
            Self(_mm512_add_epi64(
                _mm512_add_epi64(self.0, other.0),
                _mm512_add_epi64(product, product),
            ))
        })
    }

    #[inline(always)]
    unsafe fn rotate_32(self) -> Self {
        avx512!(Self(_mm512_ror_epi64::<32>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_24(self) -> Self {
        avx512!(Self(_mm512_ror_epi64::<24>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        avx512!(Self(_mm512_ror_epi64::<16>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_63(self) -> Self {
        avx512!(Self(_mm512_ror_epi64::<63>(self.0)))
    }
}

struct Eights;

impl Shape<4> for Eights {
    type V = Eight;

    #[inline(always)]
    fn row(_bundle: usize, quad: usize, k: usize) -> usize {
        k * 4 + quad
    }

    #[inline(always)]
    fn column(_bundle: usize, quad: usize, k: usize) -> usize {
        quad * 4 + k
    }

    #[inline(always)]
    unsafe fn turn_row<const BY: usize>(quad: [Eight; 4]) -> [Eight; 4] {
        quad.map(|v| {
            avx512!(Eight(match BY {
                1 => _mm512_permutex_epi64::<0b00_11_10_01>(v.0),
                2 => _mm512_permutex_epi64::<0b01_00_11_10>(v.0),
                _ => _mm512_permutex_epi64::<0b10_01_00_11>(v.0),
            }))
        })
    }

    #[inline(always)]
    unsafe fn turn_column<const BY: usize>(quad: [Eight; 4]) -> [Eight; 4] {
        quad.map(|v| {
            avx512!(Eight(match BY {
                1 => _mm512_permutexvar_epi64(_mm512_setr_epi64(1, 4, 3, 6, 5, 0, 7, 2), v.0),
                2 => _mm512_shuffle_i64x2::<0b01_00_11_10>(v.0, v.0),
                _ => _mm512_permutexvar_epi64(_mm512_setr_epi64(5, 0, 7, 2, 1, 4, 3, 6), v.0),
            }))
        })
    }
}

/// Say where a word stands: `r2 r1 r0 c2 c1 c0 e` at `r2 r1 c2 c1 r0 c0 e`.
pub(super) fn place(word: usize) -> usize {
    (word >> 5) << 5 | (word >> 2 & 3) << 3 | (word >> 4 & 1) << 2 | word & 3
}

/// # Safety
///
/// As for `super::Compress`, AVX-512F included.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn compress(
    previous: *const Block,
    reference: *const Block,
    target: *mut Block,
    over: bool,
) {
    // SAFETY: as the caller's.
    unsafe { compress_with::<Eights, 4>(previous, reference, target, over) }
}
