//! The kernel for NEON: four numbers at a time.

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vaddvq_u32, vandq_u32, vceqzq_u32, vdupq_n_s32, vdupq_n_u32, veorq_u32, vld1q_u32,
    vreinterpretq_u16_u32, vreinterpretq_u32_u16, vrev32q_u16, vshlq_n_u32, vshlq_u32, vsriq_n_u32,
};

use super::{Fixed, Lanes, Two, scan_with};

/// Use NEON's instructions.
macro_rules! neon {
    ($use:expr) => {
        // SAFETY: NEON is part of every target this file is compiled for; a pointer is to four words at hand.
        unsafe { $use }
    };
}

#[derive(Clone, Copy)]
struct Four(uint32x4_t);

impl Lanes for Four {
    const COUNT: u64 = 4;

    #[inline(always)]
    unsafe fn all(word: u32) -> Self {
        neon!(Self(vdupq_n_u32(word)))
    }

    #[inline(always)]
    unsafe fn count_from(first: u32) -> Self {
        neon!(Self(vaddq_u32(
            vdupq_n_u32(first),
            vld1q_u32([0, 1, 2, 3].as_ptr())
        )))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        neon!(Self(vaddq_u32(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        neon!(Self(veorq_u32(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn shift_up(self, bits: u32) -> Self {
        neon!(Self(vshlq_u32(self.0, vdupq_n_s32(bits as i32))))
    }

    #[inline(always)]
    unsafe fn shift_down(self, bits: u32) -> Self {
        neon!(Self(vshlq_u32(self.0, vdupq_n_s32(-(bits as i32)))))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        neon!(Self(vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(
            self.0
        )))))
    }

    #[inline(always)]
    unsafe fn rotate_12(self) -> Self {
        neon!(Self(vsriq_n_u32::<12>(vshlq_n_u32::<20>(self.0), self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_8(self) -> Self {
        neon!(Self(vsriq_n_u32::<8>(vshlq_n_u32::<24>(self.0), self.0)))
    }

    #[inline(always)]
    unsafe fn rotate_7(self) -> Self {
        neon!(Self(vsriq_n_u32::<7>(vshlq_n_u32::<25>(self.0), self.0)))
    }

    #[inline(always)]
    unsafe fn without(self, mask: Self) -> u32 {
        neon!({
            let clear = vceqzq_u32(vandq_u32(self.0, mask.0));
            vaddvq_u32(vandq_u32(clear, vld1q_u32([1, 2, 4, 8].as_ptr())))
        })
    }
}

/// # Safety
///
/// None is asked for: every 64-bit ARM processor offers NEON.
pub(super) unsafe fn scan(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
    // SAFETY: NEON is part of the target.
    unsafe { scan_with::<Two<Four>, Two<Four>>(fixed, first, end, mask) }
}
