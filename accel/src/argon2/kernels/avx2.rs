//! The kernel for AVX2: four words at a time.
//!
//! A vector holds the words that differ in `r0` and `c0`; a quad is two vectors, `e` telling them apart.
//! A turn is then a change of names and at most one exchange of two halves of a vector.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_load_si256, _mm256_mul_epu32, _mm256_or_si256,
    _mm256_permute4x64_epi64, _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_shuffle_epi32, _mm256_srli_epi64,
    _mm256_store_si256, _mm256_xor_si256,
};

use super::{Block, Shape, Vector, compress_with};

/// Use AVX2's instructions.
macro_rules! avx2 {
    ($use:expr) => {
        // SAFETY: the caller vouches for AVX2 and, where there is a pointer, for 32 bytes of a block behind
        // it; every vector of a block is aligned to its size.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Four(__m256i);

impl Vector for Four {
    const WORDS: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u64) -> Self {
        avx2!(Self(_mm256_load_si256(at.cast())))
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u64) {
        avx2!(_mm256_store_si256(at.cast(), self.0));
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        avx2!(Self(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self) -> Self {
        avx2!({
            let product = _mm256_mul_epu32(self.0, other.0);
            Self(_mm256_add_epi64(
                _mm256_add_epi64(self.0, other.0),
                _mm256_add_epi64(product, product),
            ))
        })
    }

    #[inline(always)]
    unsafe fn rotate_32(self) -> Self {
        avx2!(Self(_mm256_shuffle_epi32::<0b10_11_00_01>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_24(self) -> Self {
        avx2!(Self(_mm256_shuffle_epi8(
            self.0,
            _mm256_setr_epi8(
                3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, //
                3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10,
            ),
        )))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        avx2!(Self(_mm256_shuffle_epi8(
            self.0,
            _mm256_setr_epi8(
                2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, //
                2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9,
            ),
        )))
    }

    #[inline(always)]
    unsafe fn rotate_63(self) -> Self {
        avx2!(Self(_mm256_or_si256(
            _mm256_srli_epi64::<63>(self.0),
            _mm256_add_epi64(self.0, self.0)
        )))
    }
}

struct Fours;

/// Turn a quad, given how its vectors exchange the words their quad-mates lie beside.
macro_rules! turn {
    ($quad:ident, $by:ident, $exchange:expr) => {{
        let ([x, y], exchange) = ($quad, $exchange);
        match $by {
            1 => [y, exchange(x)],
            2 => [exchange(x), exchange(y)],
            _ => [exchange(y), x],
        }
    }};
}

impl Shape<2> for Fours {
    type V = Four;

    #[inline(always)]
    fn row(bundle: usize, quad: usize, k: usize) -> usize {
        bundle * 8 + quad * 2 + k
    }

    #[inline(always)]
    fn column(bundle: usize, quad: usize, k: usize) -> usize {
        quad * 8 + bundle * 2 + k
    }

    #[inline(always)]
    unsafe fn turn_row<const BY: usize>(quad: [Four; 2]) -> [Four; 2] {
        turn!(quad, BY, |v: Four| avx2!(Four(_mm256_shuffle_epi32::<
            0b01_00_11_10,
        >(v.0)))) // along c0
    }

    #[inline(always)]
    unsafe fn turn_column<const BY: usize>(quad: [Four; 2]) -> [Four; 2] {
        turn!(quad, BY, |v: Four| avx2!(Four(_mm256_permute4x64_epi64::<
            0b01_00_11_10,
        >(v.0)))) // along r0
    }
}

/// Say where a word stands: `r2 r1 r0 c2 c1 c0 e` at `r2 r1 c2 c1 e r0 c0`.
pub(super) fn place(word: usize) -> usize {
    let bit = |n: usize| word >> n & 1;
    (word >> 5) << 5 | bit(3) << 4 | bit(2) << 3 | bit(0) << 2 | bit(4) << 1 | bit(1)
}

/// # Safety
///
/// As for `super::Compress`, AVX2 included.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn compress(
    previous: *const Block,
    reference: *const Block,
    target: *mut Block,
    over: bool,
) {
    // SAFETY: as the caller's.
    unsafe { compress_with::<Fours, 2>(previous, reference, target, over) }
}
