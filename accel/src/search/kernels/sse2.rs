//! The kernel for SSE2: four numbers at a time.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_and_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_cvtsi32_si128,
    _mm_movemask_ps, _mm_or_si128, _mm_set1_epi32, _mm_setr_epi32, _mm_setzero_si128, _mm_shufflehi_epi16,
    _mm_shufflelo_epi16, _mm_sll_epi32, _mm_slli_epi32, _mm_srl_epi32, _mm_srli_epi32, _mm_xor_si128,
};

use super::{Fixed, Lanes, Two, scan_with};

/// Use SSE2's instructions.
macro_rules! sse2 {
    ($use:expr) => {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Four(__m128i);

impl Lanes for Four {
    const COUNT: u64 = 4;

    #[inline(always)]
    unsafe fn all(word: u32) -> Self {
        sse2!(Self(_mm_set1_epi32(word as i32)))
    }

    #[inline(always)]
    unsafe fn count_from(first: u32) -> Self {
        sse2!(Self(_mm_add_epi32(
            _mm_set1_epi32(first as i32),
            _mm_setr_epi32(0, 1, 2, 3)
        )))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        sse2!(Self(_mm_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        sse2!(Self(_mm_xor_si128(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn shift_up(self, bits: u32) -> Self {
        sse2!(Self(_mm_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    unsafe fn shift_down(self, bits: u32) -> Self {
        sse2!(Self(_mm_srl_epi32(self.0, _mm_cvtsi32_si128(bits as i32))))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        sse2!(Self(_mm_shufflehi_epi16::<0b10_11_00_01>(_mm_shufflelo_epi16::<
            0b10_11_00_01,
        >(self.0))))
    }

    #[inline(always)]
    unsafe fn rotate_12(self) -> Self {
        sse2!(Self(_mm_or_si128(
            _mm_srli_epi32::<12>(self.0),
            _mm_slli_epi32::<20>(self.0)
        )))
    }

    #[inline(always)]
    unsafe fn rotate_8(self) -> Self {
        sse2!(Self(_mm_or_si128(
            _mm_srli_epi32::<8>(self.0),
            _mm_slli_epi32::<24>(self.0)
        )))
    }

    #[inline(always)]
    unsafe fn rotate_7(self) -> Self {
        sse2!(Self(_mm_or_si128(
            _mm_srli_epi32::<7>(self.0),
            _mm_slli_epi32::<25>(self.0)
        )))
    }

    #[inline(always)]
    unsafe fn without(self, mask: Self) -> u32 {
        sse2!({
            let clear = _mm_cmpeq_epi32(_mm_and_si128(self.0, mask.0), _mm_setzero_si128());
            _mm_movemask_ps(_mm_castsi128_ps(clear)) as u32
        })
    }
}

/// # Safety
///
/// None is asked for: every x86-64 processor offers SSE2.
pub(super) unsafe fn scan(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { scan_with::<Two<Four>, Four>(fixed, first, end, mask) }
}
