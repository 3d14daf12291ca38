//! The kernel for any processor: a number at a time, and eight written so that a compiler sees the vectors.

use super::{Fixed, Lanes, scan_with};

impl Lanes for u32 {
    const COUNT: u64 = 1;

    #[inline(always)]
    unsafe fn all(word: u32) -> Self {
        word
    }

    #[inline(always)]
    unsafe fn count_from(first: u32) -> Self {
        first
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    unsafe fn shift_up(self, bits: u32) -> Self {
        self << bits
    }

    #[inline(always)]
    unsafe fn shift_down(self, bits: u32) -> Self {
        self.checked_shr(bits).unwrap_or(0)
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        self.rotate_right(16)
    }

    #[inline(always)]
    unsafe fn rotate_12(self) -> Self {
        self.rotate_right(12)
    }

    #[inline(always)]
    unsafe fn rotate_8(self) -> Self {
        self.rotate_right(8)
    }

    #[inline(always)]
    unsafe fn rotate_7(self) -> Self {
        self.rotate_right(7)
    }

    #[inline(always)]
    unsafe fn without(self, mask: Self) -> u32 {
        u32::from(self & mask == 0)
    }
}

/// # Safety
///
/// None is asked for; the type is that of all kernels.
pub(super) unsafe fn scan(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
    // SAFETY: no instruction is needed that a processor may lack.
    unsafe { scan_with::<u32, u32>(fixed, first, end, mask) }
}
