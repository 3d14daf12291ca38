//! BLAKE3's compression, once, over the vectors of each processor: one number in each lane of a vector.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // loops over several arrays at once, all of them unrolled

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod sse2;

use super::message::{Fixed, PARENT, ROOT};
use crate::processor::KernelName;

pub(super) const BLOCK_SIZE: usize = 64;
pub(super) const WORDS: usize = BLOCK_SIZE / 4;

/// BLAKE3 section 2.2.
pub(super) const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

const ROUNDS: usize = 7;

/// The order in which each round takes the words of a block: every round permutes that of the one before.
const SCHEDULE: [[usize; WORDS]; ROUNDS] = {
    const PERMUTATION: [usize; WORDS] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut schedule = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]; ROUNDS];
    let mut round = 1;
    while round < ROUNDS {
        let mut i = 0;
        while i < WORDS {
            schedule[round][i] = schedule[round - 1][PERMUTATION[i]];
            i += 1;
        }
        round += 1;
    }
    schedule
};

/// Find the smallest number from `first` to before `end` whose first word has no bit of `mask`.
///
/// # Safety
///
/// The processor offers the kernel's instructions.
type Scan = unsafe fn(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64>;

/// One way to scan.
#[derive(Clone, Copy)]
pub(super) struct Kernel(Scan);

impl Kernel {
    /// Find the kernel of a name, which `processor` has found to be offered.
    pub(super) fn of(name: KernelName) -> Self {
        Self(match name {
            #[cfg(target_arch = "x86_64")]
            KernelName::Avx512 => avx512::scan,
            #[cfg(target_arch = "x86_64")]
            KernelName::Avx2 => avx2::scan,
            #[cfg(target_arch = "x86_64")]
            KernelName::Sse2 => sse2::scan,
            #[cfg(target_arch = "aarch64")]
            KernelName::Neon => neon::scan,
            _ => portable::scan,
        })
    }

    /// Find the smallest number from `first` to before `end` whose first word has no bit of `mask`.
    pub(super) fn scan(&self, fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
        // SAFETY: `of` is given what the processor offers.
        unsafe { (self.0)(fixed, first, end, mask) }
    }
}

/// Digest a message with one number, to its first word.
pub(super) fn first_word(fixed: &Fixed, n: u32) -> u32 {
    // SAFETY: a plain number needs no instruction that a processor may lack.
    unsafe { Scanner::<u32, false>::new(fixed).first_word(n) }
}

/// Compress one block.
pub(super) fn compress_one(
    chaining: [u32; 8],
    words: &[u32; WORDS],
    chunk: u64,
    size: u32,
    flags: u32,
) -> [u32; 8] {
    // SAFETY: a plain number needs no instruction that a processor may lack.
    unsafe { compress(&chaining, words, chunk, size, flags) }
}

/// 32-bit words side by side, one for each number.
///
/// # Safety
///
/// Every method needs a processor that offers the implementation's instructions.
trait Lanes: Copy {
    /// Words in a vector.
    const COUNT: u64;
    /// # Safety
    /// As for the trait.
    unsafe fn all(word: u32) -> Self;
    /// Count up from `first`, wrapping.
    /// # Safety
    /// As for the trait.
    unsafe fn count_from(first: u32) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn xor(self, other: Self) -> Self;
    /// Shift towards the high bits, by less than 32.
    /// # Safety
    /// As for the trait.
    unsafe fn shift_up(self, bits: u32) -> Self;
    /// Shift towards the low bits, by 32 at most.
    /// # Safety
    /// As for the trait.
    unsafe fn shift_down(self, bits: u32) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_16(self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_12(self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_8(self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_7(self) -> Self;
    /// Mark the lanes that have no bit of `mask`, the first in the lowest bit.
    /// # Safety
    /// As for the trait.
    unsafe fn without(self, mask: Self) -> u32;
}

/// Two vectors at a time: one is mixed while the other's result is awaited.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
#[derive(Clone, Copy)]
struct Two<L>(L, L);

/// Use two vectors in turn.
macro_rules! both {
    ($first:expr, $second:expr) => {
        // SAFETY: the caller vouches for the processor.
        unsafe { Self($first, $second) }
    };
}

impl<L: Lanes> Lanes for Two<L> {
    const COUNT: u64 = 2 * L::COUNT;

    #[inline(always)]
    unsafe fn all(word: u32) -> Self {
        both!(L::all(word), L::all(word))
    }

    #[inline(always)]
    unsafe fn count_from(first: u32) -> Self {
        both!(
            L::count_from(first),
            L::count_from(first.wrapping_add(L::COUNT as u32))
        )
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        both!(self.0.add(other.0), self.1.add(other.1))
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        both!(self.0.xor(other.0), self.1.xor(other.1))
    }

    #[inline(always)]
    unsafe fn shift_up(self, bits: u32) -> Self {
        both!(self.0.shift_up(bits), self.1.shift_up(bits))
    }

    #[inline(always)]
    unsafe fn shift_down(self, bits: u32) -> Self {
        both!(self.0.shift_down(bits), self.1.shift_down(bits))
    }

    #[inline(always)]
    unsafe fn rotate_16(self) -> Self {
        both!(self.0.rotate_16(), self.1.rotate_16())
    }

    #[inline(always)]
    unsafe fn rotate_12(self) -> Self {
        both!(self.0.rotate_12(), self.1.rotate_12())
    }

    #[inline(always)]
    unsafe fn rotate_8(self) -> Self {
        both!(self.0.rotate_8(), self.1.rotate_8())
    }

    #[inline(always)]
    unsafe fn rotate_7(self) -> Self {
        both!(self.0.rotate_7(), self.1.rotate_7())
    }

    #[inline(always)]
    unsafe fn without(self, mask: Self) -> u32 {
        // SAFETY: the caller vouches for the processor.
        unsafe { self.0.without(mask.0) | self.1.without(mask.1) << L::COUNT }
    }
}

/// A message in every lane. It is `SHORT` when one block is all that is left of it, as it mostly is.
struct Scanner<'a, L, const SHORT: bool> {
    fixed: &'a Fixed,
    chaining: [L; 8],
    words: [[L; WORDS]; 2],
}

impl<'a, L: Lanes, const SHORT: bool> Scanner<'a, L, SHORT> {
    /// # Safety
    ///
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn new(fixed: &'a Fixed) -> Self {
        // SAFETY: the caller vouches for the processor.
        unsafe {
            let mut chaining = [L::all(0); 8];
            for i in 0..8 {
                chaining[i] = L::all(fixed.chaining[i]);
            }
            let mut words = [[L::all(0); WORDS]; 2];
            for i in 0..2 * WORDS {
                words[i / WORDS][i % WORDS] = L::all(fixed.words[i]);
            }
            Self {
                fixed,
                chaining,
                words,
            }
        }
    }

    /// Digest the message with a number in each lane, to the first words.
    ///
    /// # Safety
    ///
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn first_word(&mut self, numbers: L) -> L {
        let Fixed {
            chunk,
            tails: (tails, count),
            word,
            shift,
            ref left,
            ..
        } = *self.fixed;
        let next = word + 1;
        // SAFETY: the caller vouches for the processor.
        unsafe {
            // The string's bits and the number's are never the same ones.
            self.words[0][word % WORDS] = L::all(self.fixed.words[word]).xor(numbers.shift_up(shift));
            self.words[next / WORDS][next % WORDS] =
                L::all(self.fixed.words[next]).xor(numbers.shift_down(32 - shift));
            if SHORT {
                return compress(
                    &self.chaining,
                    &self.words[0],
                    chunk,
                    tails[0].size,
                    tails[0].flags,
                )[0];
            }
            let mut chaining = self.chaining;
            for i in 0..count {
                chaining = compress(&chaining, &self.words[i], chunk, tails[i].size, tails[i].flags);
            }
            for (i, subtree) in left.iter().enumerate() {
                let mut words = [L::all(0); WORDS];
                let mut start = [L::all(0); 8];
                for i in 0..8 {
                    words[i] = L::all(subtree[i]);
                    words[8 + i] = chaining[i];
                    start[i] = L::all(IV[i]);
                }
                let flags = if i + 1 == left.len() {
                    PARENT | ROOT
                } else {
                    PARENT
                };
                chaining = compress(&start, &words, 0, BLOCK_SIZE as u32, flags);
            }
            chaining[0]
        }
    }
}

/// Scan with the vectors of `L`, or of `M` where more than one block is left of the message: where a processor
/// has few registers, two vectors at a time are then too many. Inlined into a function that has the
/// processor's instructions.
///
/// # Safety
///
/// As for [`Lanes`].
#[inline(always)]
unsafe fn scan_with<L: Lanes, M: Lanes>(fixed: &Fixed, first: u64, end: u64, mask: u32) -> Option<u64> {
    // SAFETY: the caller vouches for the processor.
    unsafe {
        if fixed.tails.1 == 1 && fixed.left.is_empty() {
            scan_one::<L, true>(fixed, first, end, mask)
        } else {
            scan_one::<M, false>(fixed, first, end, mask)
        }
    }
}

/// # Safety
///
/// As for [`Lanes`].
#[inline(always)]
unsafe fn scan_one<L: Lanes, const SHORT: bool>(
    fixed: &Fixed,
    first: u64,
    end: u64,
    mask: u32,
) -> Option<u64> {
    // SAFETY: the caller vouches for the processor.
    unsafe {
        let (mut scanner, mask) = (Scanner::<L, SHORT>::new(fixed), L::all(mask));
        let mut n = first;
        while n < end {
            let hits = scanner.first_word(L::count_from(n as u32)).without(mask);
            if hits != 0 {
                let hit = n + u64::from(hits.trailing_zeros());
                return (hit < end).then_some(hit); // the lanes behind the end are not asked for
            }
            n += L::COUNT;
        }
        None
    }
}

/// Compress a block (BLAKE3 section 2.2), to the half that a chaining value is.
///
/// # Safety
///
/// As for [`Lanes`].
#[inline(always)]
unsafe fn compress<L: Lanes>(
    chaining: &[L; 8],
    words: &[L; WORDS],
    chunk: u64,
    size: u32,
    flags: u32,
) -> [L; 8] {
    // SAFETY: the caller vouches for the processor.
    unsafe {
        let [mut a, mut b] = [[L::all(0); 4]; 2];
        for i in 0..4 {
            (a[i], b[i]) = (chaining[i], chaining[4 + i]);
        }
        let c = [L::all(IV[0]), L::all(IV[1]), L::all(IV[2]), L::all(IV[3])];
        let d = [
            L::all(chunk as u32),
            L::all((chunk >> 32) as u32),
            L::all(size),
            L::all(flags),
        ];
        let mut state = [a, b, c, d];
        round::<L, 0>(&mut state, words);
        round::<L, 1>(&mut state, words);
        round::<L, 2>(&mut state, words);
        round::<L, 3>(&mut state, words);
        round::<L, 4>(&mut state, words);
        round::<L, 5>(&mut state, words);
        round::<L, 6>(&mut state, words);
        let [a, b, c, d] = state;
        let mut output = [a[0]; 8];
        for i in 0..4 {
            (output[i], output[4 + i]) = (a[i].xor(c[i]), b[i].xor(d[i]));
        }
        output
    }
}

/// Do a round: the columns, then the diagonals as columns. The number of the round is part of the type, so
/// that the order of its words is known to the compiler.
///
/// # Safety
///
/// As for [`Lanes`].
#[inline(always)]
unsafe fn round<L: Lanes, const ROUND: usize>(state: &mut [[L; 4]; 4], words: &[L; WORDS]) {
    let order = const { SCHEDULE[ROUND] };
    // SAFETY: the caller vouches for the processor.
    unsafe {
        mix(
            state,
            words,
            [order[0], order[2], order[4], order[6]],
            [order[1], order[3], order[5], order[7]],
        );
        let [_, b, c, d] = state;
        (*b, *c, *d) = (
            [b[1], b[2], b[3], b[0]],
            [c[2], c[3], c[0], c[1]],
            [d[3], d[0], d[1], d[2]],
        );
        mix(
            state,
            words,
            [order[8], order[10], order[12], order[14]],
            [order[9], order[11], order[13], order[15]],
        );
        let [_, b, c, d] = state;
        (*b, *c, *d) = (
            [b[3], b[0], b[1], b[2]],
            [c[2], c[3], c[0], c[1]],
            [d[1], d[2], d[3], d[0]],
        );
    }
}

/// Mix four columns: half of a round.
///
/// # Safety
///
/// As for [`Lanes`].
#[inline(always)]
unsafe fn mix<L: Lanes>(
    [a, b, c, d]: &mut [[L; 4]; 4],
    words: &[L; WORDS],
    first: [usize; 4],
    second: [usize; 4],
) {
    // SAFETY: the caller vouches for the processor.
    unsafe {
        for i in 0..4 {
            a[i] = a[i].add(words[first[i]]).add(b[i]);
        }
        for i in 0..4 {
            d[i] = d[i].xor(a[i]).rotate_16();
        }
        for i in 0..4 {
            c[i] = c[i].add(d[i]);
        }
        for i in 0..4 {
            b[i] = b[i].xor(c[i]).rotate_12();
        }
        for i in 0..4 {
            a[i] = a[i].add(words[second[i]]).add(b[i]);
        }
        for i in 0..4 {
            d[i] = d[i].xor(a[i]).rotate_8();
        }
        for i in 0..4 {
            c[i] = c[i].add(d[i]);
        }
        for i in 0..4 {
            b[i] = b[i].xor(c[i]).rotate_7();
        }
    }
}
