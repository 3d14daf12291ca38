//! The kernel for AVX2: eight numbers at a time.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
    _mm256_movemask_ps, _mm256_or_si256, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setr_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sll_epi32, _mm256_slli_epi32, _mm256_srl_epi32,
    _mm256_srli_epi32, _mm256_xor_si256,
};

use super::{Fixed, Lanes, Two, scan_with};

/// Use AVX2's instructions.
macro_rules! avx2 {
    ($use:expr) => {
        // SAFETY: the caller vouches for AVX2.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Eight(__m256i);

impl Lanes for Eight {
    const COUNT: u64 = 8;

    #[inline(always)]
    unsafe fn all(word: u32) -> Self {
        avx2!(Self(_mm256_set1_epi32(word as i32)))
    }

    #[inline(always)]
    unsafe fn count_from(first: u32) -> Self {
        avx2!({
            let steps = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            Self(_mm256_add_epi32(_mm256_set1_epi32(first as i32), steps))
        })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        avx2!(Self(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        avx2!(Self(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn shift_up(self, bits: u32) -> Self {
        avx2!(Self(_mm256_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    unsafe fn shift_down(self, bits: u32) -> Self {
        avx2!(Self(_mm256_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        avx2!({
            let order = _mm256_setr_epi8(
                2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9,
                14, 15, 12, 13,
            );
            Self(_mm256_shuffle_epi8(self.0, order))
        })
    }

    #[inline(always)]
    unsafe fn rotate_12(self) -> Self {
        avx2!(Self(_mm256_or_si256(
            _mm256_srli_epi32::<12>(self.0),
            _mm256_slli_epi32::<20>(self.0)
        )))
    }

    #[inline(always)]
    unsafe fn rotate_8(self) -> Self {
        avx2!({
            let order = _mm256_setr_epi8(
                1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8,
                13, 14, 15, 12,
            );
            Self(_mm256_shuffle_epi8(self.0, order))
        })
    }

    #[inline(always)]
    unsafe fn rotate_7(self) -> Self {
        avx2!(Self(_mm256_or_si256(
            _mm256_srli_epi32::<7>(self.0),
            _mm256_slli_epi32::<25>(self.0)
        )))
    }

    #[inline(always)]
    unsafe fn without(self, mask: Self) -> u32 {
        avx2!({
            let clear = _mm256_cmpeq_epi32(_mm256_and_si256(self.0, mask.0), _mm256_setzero_si256());
            _mm256_movemask_ps(_mm256_castsi256_ps(clear)) as u32
        })
    }
}

/// # Safety
///
/// The processor offers AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
    // SAFETY: as the caller's.
    unsafe { scan_with::<Two<Eight>, Eight>(fixed, first, end, mask) }
}
