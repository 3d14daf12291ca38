//! The kernel for AVX-512: sixteen numbers at a time.

use std::arch::x86_64::{
    __m512i, _mm_cvtsi32_si128, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_sll_epi32, _mm512_srl_epi32, _mm512_testn_epi32_mask, _mm512_xor_si512,
};

use super::{Fixed, Lanes, Two, scan_with};

/// Use AVX-512's instructions.
macro_rules! avx512 {
    ($use:expr) => {
        // SAFETY: the caller vouches for AVX-512.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Sixteen(__m512i);

impl Lanes for Sixteen {
    const COUNT: u64 = 16;

    #[inline(always)]
    unsafe fn all(word: u32) -> Self {
        avx512!(Self(_mm512_set1_epi32(word as i32)))
    }

    #[inline(always)]
    unsafe fn count_from(first: u32) -> Self {
        avx512!({
            let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            Self(_mm512_add_epi32(_mm512_set1_epi32(first as i32), steps))
        })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        avx512!(Self(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        avx512!(Self(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn shift_up(self, bits: u32) -> Self {
        avx512!(Self(_mm512_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    unsafe fn shift_down(self, bits: u32) -> Self {
        avx512!(Self(_mm512_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        avx512!(Self(_mm512_ror_epi32::<16>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_12(self) -> Self {
        avx512!(Self(_mm512_ror_epi32::<12>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_8(self) -> Self {
        avx512!(Self(_mm512_ror_epi32::<8>(self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_7(self) -> Self {
        avx512!(Self(_mm512_ror_epi32::<7>(self.0)))
    }

    #[inline(always)]
    unsafe fn without(self, mask: Self) -> u32 {
        avx512!(u32::from(_mm512_testn_epi32_mask(self.0, mask.0)))
    }
}

/// # Safety
///
/// The processor offers AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scan(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
    // SAFETY: as the caller's.
    unsafe { scan_with::<Two<Sixteen>, Two<Sixteen>>(fixed, first, end, mask) }
}
