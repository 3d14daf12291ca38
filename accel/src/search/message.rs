//! What of the message does not depend on the number, compressed once.
//!
//! BLAKE3 digests chunks of 1 KiB, block by block of 64 bytes, and merges them in a binary tree. The number
//! is in the last block, or the last two; before it in its chunk there is one chaining value, and to the
//! left of its chunk one for each subtree.

use blake3::hazmat::HasherExt;

use super::kernels::{self, BLOCK_SIZE, IV, WORDS};

const CHUNK_SIZE: usize = 1024;
const NUMBER_SIZE: usize = 4;

pub(super) const CHUNK_START: u32 = 1;
pub(super) const CHUNK_END: u32 = 2;
pub(super) const PARENT: u32 = 4;
pub(super) const ROOT: u32 = 8;

/// A block in which the number is, or a part of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Tail {
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// All that a digest needs but the number.
pub(super) struct Fixed {
    /// What the blocks before in the same chunk were compressed to.
    pub(super) chaining: [u32; 8],
    /// Which chunk it is.
    pub(super) chunk: u64,
    /// The words of the last two blocks, the number's bits zero; the second block may not be used.
    pub(super) words: [u32; 2 * WORDS],
    /// The last blocks, one or two.
    pub(super) tails: ([Tail; 2], usize),
    /// The word in which the number begins, and by how many bits it is shifted there.
    pub(super) word: usize,
    pub(super) shift: u32,
    /// The subtrees to the left, the nearest first.
    pub(super) left: Vec<[u32; 8]>,
}

/// A message that lacks its number.
pub(super) enum Message {
    Fixed(Box<Fixed>),
    /// The number lies across two chunks: every number costs a digest. One string in 340 of those beyond
    /// 1 KiB.
    Whole(Box<blake3::Hasher>),
}

impl Message {
    pub(super) fn new(string: &[u8]) -> Self {
        let chunk = (string.len() + NUMBER_SIZE - 1) / CHUNK_SIZE;
        match string.split_at_checked(chunk * CHUNK_SIZE) {
            Some((before, last)) => Self::Fixed(Box::new(Fixed::new(before, last))),
            None => Self::Whole(Box::new(blake3::Hasher::new().update(string).clone())),
        }
    }

    pub(super) fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Digest the message with a number, to its first word.
    pub(super) fn first_word(&self, n: u32) -> u32 {
        match self {
            Self::Fixed(fixed) => kernels::first_word(fixed, n),
            Self::Whole(before) => {
                let digest = before.as_ref().clone().update(&n.to_le_bytes()).finalize();
                words::<1>(digest.as_bytes())[0]
            }
        }
    }
}

impl Fixed {
    /// Compress the chunks before the last, and all of the last that comes before the number's block.
    fn new(before: &[u8], last: &[u8]) -> Self {
        let chunk = before.len() / CHUNK_SIZE;
        let (done, open) = last.split_at(last.len() / BLOCK_SIZE * BLOCK_SIZE);
        let chunk_start = |block: usize| if block == 0 { CHUNK_START } else { 0 };
        let mut chaining = IV;
        for (index, block) in done.chunks_exact(BLOCK_SIZE).enumerate() {
            chaining = kernels::compress_one(
                chaining,
                &words(block),
                chunk as u64,
                BLOCK_SIZE as u32,
                chunk_start(index),
            );
        }
        let mut bytes = [0; 2 * BLOCK_SIZE];
        bytes[..open.len()].copy_from_slice(open);
        let end = open.len() + NUMBER_SIZE;
        let end_flags = if chunk == 0 { CHUNK_END | ROOT } else { CHUNK_END };
        let start_flags = chunk_start(done.len() / BLOCK_SIZE);
        let tails = if end <= BLOCK_SIZE {
            (
                [
                    Tail {
                        size: end as u32,
                        flags: start_flags | end_flags,
                    },
                    Tail::default(),
                ],
                1,
            )
        } else {
            let rest = (end - BLOCK_SIZE) as u32;
            (
                [
                    Tail {
                        size: BLOCK_SIZE as u32,
                        flags: start_flags,
                    },
                    Tail {
                        size: rest,
                        flags: end_flags,
                    },
                ],
                2,
            )
        };
        Self {
            chaining,
            chunk: chunk as u64,
            words: words(&bytes),
            tails,
            word: open.len() / 4,
            shift: 8 * (open.len() as u32 % 4),
            left: subtrees(before),
        }
    }
}

/// Digest whole chunks to the fewest subtrees, the last and smallest first.
fn subtrees(chunks: &[u8]) -> Vec<[u32; 8]> {
    let mut subtrees = Vec::new();
    let mut end = chunks.len();
    while end > 0 {
        let start = end & (end - 1); // a subtree's chunks are a power of two: the lowest bit of what is left
        let value = blake3::Hasher::new()
            .set_input_offset(start as u64)
            .update(&chunks[start..end])
            .finalize_non_root();
        subtrees.push(words(&value));
        end = start;
    }
    subtrees
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().expect("4 bytes")))
}
