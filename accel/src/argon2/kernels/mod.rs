//! The compression of Argon2 (RFC 9106 section 3.5), once, over the vectors of each processor.
//!
//! A block is 8 rows of 16 words. A round mixes 16 words as four quads of four words each: first the
//! words of each row, then those of each pair of columns. The bits of a word's index are
//!
//! ```text
//! r2 r1 r0 | c2 c1 | c0 e        row; quad of the row; word of the quad
//! ```
//!
//! and a column round sees `c2 c1 c0 | r2 r1 | r0 e`. The bits `r0`, `c0` and `e` never tell quads
//! apart in either round, so words that differ in these alone may share a vector, and one order of the
//! words serves both rounds with nothing moved between them. Blocks are kept in memory in that order;
//! only the first two and the last of a lane are ever read or written word by word, through [`Kernel::place`].
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
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use crate::processor::KernelName;

/// 64-bit words in a block.
pub(crate) const WORDS: usize = 128;

/// Bytes of a block.
pub(crate) const BLOCK_SIZE: usize = size_of::<Block>();

/// A block of 1 KiB, its words in the order of the kernel that fills it.
#[repr(C, align(64))]
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Block(pub(crate) [u64; WORDS]);

impl Block {
    pub(crate) const ZERO: Self = Self([0; WORDS]);
}

/// Compress `previous` and `reference` into `target`, over what `target` holds where `over` says so.
///
/// # Safety
///
/// The processor offers the kernel's instructions; `previous` and `reference` can be read and `target`
/// written (and read, where `over`) as blocks, and `target` is neither of the others.
type Compress = unsafe fn(previous: *const Block, reference: *const Block, target: *mut Block, over: bool);

/// One way to compress, and the order of words it wants.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    compress: Compress,
    place: fn(usize) -> usize,
}

impl Kernel {
    /// Find the kernel of a name, which `processor` has found to be offered.
    pub(crate) fn of(name: KernelName) -> Self {
        match name {
            #[cfg(target_arch = "x86_64")]
            KernelName::Avx512 => Self {
                compress: avx512::compress,
                place: avx512::place,
            },
            #[cfg(target_arch = "x86_64")]
            KernelName::Avx2 => Self {
                compress: avx2::compress,
                place: avx2::place,
            },
            #[cfg(target_arch = "x86_64")]
            KernelName::Sse2 => Self {
                compress: sse2::compress,
                place: natural,
            },
            #[cfg(target_arch = "aarch64")]
            KernelName::Neon => Self {
                compress: neon::compress,
                place: natural,
            },
            _ => Self {
                compress: portable::compress,
                place: natural,
            },
        }
    }

    /// Say where a word of a block stands in memory.
    pub(crate) fn place(&self, word: usize) -> usize {
        (self.place)(word)
    }

    /// Compress two blocks into a third; see [`Compress`].
    ///
    /// # Safety
    ///
    /// `previous` and `reference` can be read and `target` written (and read, where `over`) as blocks,
    /// and `target` is neither of the others.
    #[inline]
    pub(crate) unsafe fn compress(
        &self,
        previous: *const Block,
        reference: *const Block,
        target: *mut Block,
        over: bool,
    ) {
        // SAFETY: the caller vouches for the blocks, and `of` is given what the processor offers.
        unsafe { (self.compress)(previous, reference, target, over) }
    }
}

fn natural(word: usize) -> usize {
    word
}

/// 64-bit words side by side.
///
/// # Safety
///
/// Every method needs a processor that offers the implementation's instructions.
trait Vector: Copy {
    /// Words in a vector.
    const WORDS: usize;
    /// # Safety
    /// As for the trait; a vector can be read at `at`.
    unsafe fn load(at: *const u64) -> Self;
    /// # Safety
    /// As for the trait; a vector can be written at `at`.
    unsafe fn store(self, at: *mut u64);
    /// # Safety
    /// As for the trait.
    unsafe fn xor(self, other: Self) -> Self;
    /// Add `other`, and twice the product of the low halves.
    /// # Safety
    /// As for the trait.
    unsafe fn add_product(self, other: Self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_32(self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_24(self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_16(self) -> Self;
    /// # Safety
    /// As for the trait.
    unsafe fn rotate_63(self) -> Self;
}

/// How the words of a block lie over vectors: a round takes `K` vectors for each of the four quads at once.
trait Shape<const K: usize> {
    type V: Vector;
    /// How often a row round, or a column round, is done to cover the block.
    const BUNDLES: usize = WORDS / (4 * K * <Self::V as Vector>::WORDS);

    /// Find a vector of the row rounds: which of the block's it is.
    fn row(bundle: usize, quad: usize, k: usize) -> usize;
    /// Find a vector of the column rounds.
    fn column(bundle: usize, quad: usize, k: usize) -> usize;
    /// Turn the words of each row's quad left by `BY` words.
    /// # Safety
    /// As for `Vector`.
    unsafe fn turn_row<const BY: usize>(quad: [Self::V; K]) -> [Self::V; K];
    /// Turn the words of each column's quad left by `BY` words.
    /// # Safety
    /// As for `Vector`.
    unsafe fn turn_column<const BY: usize>(quad: [Self::V; K]) -> [Self::V; K];
}

/// Compress with the vectors of a shape; inlined into a function that has the processor's instructions.
///
/// # Safety
///
/// As for [`Compress`].
#[inline(always)]
unsafe fn compress_with<S: Shape<K>, const K: usize>(
    previous: *const Block,
    reference: *const Block,
    target: *mut Block,
    over: bool,
) {
    let (previous, reference, target) = (
        previous.cast::<u64>(),
        reference.cast::<u64>(),
        target.cast::<u64>(),
    );
    let mut between = MaybeUninit::<Block>::uninit();
    let between = between.as_mut_ptr().cast::<u64>();
    let size = S::V::WORDS;
    // SAFETY: the caller vouches for the blocks and the processor. Vectors are numbered below
    // WORDS / size, so every access lies inside its block; `between` is a block of this
    // function, written by the row rounds before the column rounds read it.
    unsafe {
        for bundle in 0..S::BUNDLES {
            let mut quads = [[S::V::load(previous); K]; 4];
            for q in 0..4 {
                for k in 0..K {
                    let at = S::row(bundle, q, k) * size;
                    quads[q][k] = S::V::load(previous.add(at)).xor(S::V::load(reference.add(at)));
                }
            }
            mix(&mut quads);
            quads[0] = S::turn_row::<3>(quads[0]);
            quads[2] = S::turn_row::<1>(quads[2]);
            quads[3] = S::turn_row::<2>(quads[3]);
            mix(&mut quads);
            quads[0] = S::turn_row::<1>(quads[0]);
            quads[2] = S::turn_row::<3>(quads[2]);
            quads[3] = S::turn_row::<2>(quads[3]);
            for q in 0..4 {
                for k in 0..K {
                    quads[q][k].store(between.add(S::row(bundle, q, k) * size));
                }
            }
        }
        for bundle in 0..S::BUNDLES {
            let mut quads = [[S::V::load(previous); K]; 4];
            for q in 0..4 {
                for k in 0..K {
                    quads[q][k] = S::V::load(between.add(S::column(bundle, q, k) * size));
                }
            }
            mix(&mut quads);
            quads[0] = S::turn_column::<3>(quads[0]);
            quads[2] = S::turn_column::<1>(quads[2]);
            quads[3] = S::turn_column::<2>(quads[3]);
            mix(&mut quads);
            quads[0] = S::turn_column::<1>(quads[0]);
            quads[2] = S::turn_column::<3>(quads[2]);
            quads[3] = S::turn_column::<2>(quads[3]);
            for q in 0..4 {
                for k in 0..K {
                    let at = S::column(bundle, q, k) * size;
                    let input = S::V::load(previous.add(at)).xor(S::V::load(reference.add(at)));
                    let mut output = quads[q][k].xor(input);
                    if over {
                        output = output.xor(S::V::load(target.add(at)));
                    }
                    output.store(target.add(at));
                }
            }
        }
    }
}

/// Mix four quads word by word: half of a round. The second quad is the last to be ready, so a turn moves
/// the other three around it.
///
/// # Safety
///
/// As for [`Vector`].
#[inline(always)]
unsafe fn mix<V: Vector, const K: usize>(quads: &mut [[V; K]; 4]) {
    let [a, b, c, d] = quads;
    // SAFETY: the caller vouches for the processor.
    unsafe {
        for k in 0..K {
            a[k] = a[k].add_product(b[k]);
        }
        for k in 0..K {
            d[k] = d[k].xor(a[k]).rotate_32();
        }
        for k in 0..K {
            c[k] = c[k].add_product(d[k]);
        }
        for k in 0..K {
            b[k] = b[k].xor(c[k]).rotate_24();
        }
        for k in 0..K {
            a[k] = a[k].add_product(b[k]);
        }
        for k in 0..K {
            d[k] = d[k].xor(a[k]).rotate_16();
        }
        for k in 0..K {
            c[k] = c[k].add_product(d[k]);
        }
        for k in 0..K {
            b[k] = b[k].xor(c[k]).rotate_63();
        }
    }
}

/// Place words by their natural order where a vector is two neighbours `c0` and a quad two vectors.
macro_rules! pairs_in_natural_order {
    ($shape:ty, $vector:ty) => {
        impl super::Shape<2> for $shape {
            type V = $vector;

            #[inline(always)]
            fn row(bundle: usize, quad: usize, k: usize) -> usize {
                bundle * 8 + quad * 2 + k
            }

            #[inline(always)]
            fn column(bundle: usize, quad: usize, k: usize) -> usize {
                (quad * 2 + k) * 8 + bundle
            }

            #[inline(always)]
            unsafe fn turn_row<const BY: usize>([x, y]: [$vector; 2]) -> [$vector; 2] {
                // SAFETY: the caller vouches for the processor.
                unsafe {
                    match BY {
                        1 => [x.straddle(y), y.straddle(x)],
                        2 => [y, x],
                        _ => [y.straddle(x), x.straddle(y)],
                    }
                }
            }

            #[inline(always)]
            unsafe fn turn_column<const BY: usize>(quad: [$vector; 2]) -> [$vector; 2] {
                // SAFETY: the caller vouches for the processor; a column's quad lies as a row's does.
                unsafe { <Self as super::Shape<2>>::turn_row::<BY>(quad) }
            }
        }
    };
}
use pairs_in_natural_order;
