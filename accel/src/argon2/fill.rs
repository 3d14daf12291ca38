//! The memory of a hash, and how a segment of it is filled (RFC 9106 section 3.4).
#![allow(unsafe_code)]

use super::kernels::{BLOCK_SIZE, Block, Kernel, WORDS};
use super::reference::{Segment, reference};
use super::{HASH_SIZE, Parameters, SLICES, Variant, blake2};
use crate::job::{Cancelled, Job};
use crate::memory::{Borrowed, OutOfMemory, borrow};

/// Lanes one thread fills in turn. While one lane's block is mixed, the next ones of the others are on their
/// way from memory. More lanes than this gain nothing.
pub(super) const LANES_IN_TURN: u32 = 4;

/// Blocks of each lane between two looks at the job: some hundredths of a millisecond.
const BLOCKS_PER_LOOK: u32 = 64;

const ADDRESSES: u32 = WORDS as u32;

/// The blocks of one hash, lane after lane.
pub(super) struct Memory {
    arena: Borrowed,
    kernel: Kernel,
    parameters: Parameters,
}

// SAFETY: threads fill segments of different lanes in the same slice; `Turns` lets no slice begin before
// the one before it is complete, and `reference` finds only blocks that are.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn borrow(kernel: Kernel, parameters: Parameters) -> Result<Self, OutOfMemory> {
        let size = usize::try_from(parameters.blocks())
            .ok()
            .and_then(|n| n.checked_mul(BLOCK_SIZE));
        Ok(Self {
            arena: borrow(size.ok_or(OutOfMemory)?)?,
            kernel,
            parameters,
        })
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Find a block.
    #[inline]
    fn block(&self, lane: u32, block: u32) -> *mut Block {
        let lane_length = (self.parameters.segment() * SLICES) as usize;
        debug_assert!(lane < self.parameters.lanes && (block as usize) < lane_length);
        // SAFETY: the arena has lanes times lane_length blocks.
        unsafe {
            self.arena
                .start()
                .as_ptr()
                .cast::<Block>()
                .add(lane as usize * lane_length + block as usize)
        }
    }

    /// Write the first two blocks of every lane.
    pub(super) fn begin(&self, seed: &blake2::Seed, job: &Job) -> Result<(), Cancelled> {
        for lane in 0..self.parameters.lanes {
            if job.is_cancelled() {
                return Err(Cancelled);
            }
            for block in 0..2 {
                let bytes = blake2::first_block(seed, block, lane);
                // SAFETY: a block of this memory, and nobody else is at it yet; every word is written.
                let words = unsafe { &mut *self.block(lane, block).cast::<[u64; WORDS]>() };
                for (word, value) in bytes.chunks_exact(8).enumerate() {
                    words[self.kernel.place(word)] = u64::from_le_bytes(value.try_into().expect("8 bytes"));
                }
            }
        }
        Ok(())
    }

    /// Digest the last blocks of all lanes.
    pub(super) fn finish(&self) -> [u8; HASH_SIZE] {
        let mut sum = Block::ZERO;
        for lane in 0..self.parameters.lanes {
            // SAFETY: a block of this memory, filled, and nobody writes any more.
            let last = unsafe { &*self.block(lane, self.parameters.segment() * SLICES - 1) };
            sum.0.iter_mut().zip(last.0).for_each(|(sum, word)| *sum ^= word);
        }
        let mut bytes = [0; BLOCK_SIZE];
        for (word, value) in bytes.chunks_exact_mut(8).enumerate() {
            value.copy_from_slice(&sum.0[self.kernel.place(word)].to_le_bytes());
        }
        blake2::hash(&bytes)
    }

    /// Fill the segments of some lanes in one slice, a block of each in turn.
    ///
    /// # Safety
    ///
    /// The slice before is complete, and no other thread fills these segments.
    pub(super) unsafe fn fill(
        &self,
        pass: u32,
        slice: u32,
        lanes: std::ops::Range<u32>,
        job: &Job,
    ) -> Result<(), Cancelled> {
        // SAFETY: as the caller's.
        unsafe {
            match lanes.end - lanes.start {
                1 => self.fill_in_turn::<1>(pass, slice, lanes.start, job),
                2 => self.fill_in_turn::<2>(pass, slice, lanes.start, job),
                3 => self.fill_in_turn::<3>(pass, slice, lanes.start, job),
                _ => self.fill_in_turn::<{ LANES_IN_TURN as usize }>(pass, slice, lanes.start, job),
            }
        }
    }

    /// # Safety
    ///
    /// As for `fill`.
    unsafe fn fill_in_turn<const N: usize>(
        &self,
        pass: u32,
        slice: u32,
        first_lane: u32,
        job: &Job,
    ) -> Result<(), Cancelled> {
        let length = self.parameters.segment();
        let segments: [Segment; N] = std::array::from_fn(|lane| Segment {
            pass,
            slice,
            lane: first_lane + lane as u32,
        });
        let independent = match self.parameters.variant {
            Variant::D => false,
            Variant::I => true,
            Variant::Id => pass == 0 && slice < SLICES / 2,
        };
        let mut addresses: Vec<Addresses> = match independent {
            true => segments
                .iter()
                .map(|&segment| Addresses::new(self, segment))
                .collect(),
            false => Vec::new(),
        };
        let first = if pass == 0 && slice == 0 { 2 } else { 0 };
        let over = pass > 0;
        // Where the next block of each lane goes, and the block before it and the one it is mixed with.
        let mut previous = segments.map(|segment| {
            let before = (slice * length + first)
                .checked_sub(1)
                .unwrap_or(SLICES * length - 1);
            self.block(segment.lane, before).cast_const()
        });
        let mut target = segments.map(|segment| self.block(segment.lane, slice * length + first));
        let mut mixed = [previous[0]; N];
        let mut find = |lane: usize, index: u32, before: *const Block| {
            let random = match addresses.get_mut(lane) {
                Some(addresses) => addresses.word(self.kernel, index),
                // SAFETY: the block before is filled; its first word stands first in every order.
                None => unsafe { before.cast::<u64>().read() },
            };
            let (lane, block) = reference(&self.parameters, segments[lane], index, random);
            self.block(lane, block).cast_const()
        };
        for lane in 0..N {
            mixed[lane] = find(lane, first, previous[lane]);
        }
        for index in first..length {
            if index % BLOCKS_PER_LOOK == 0 && job.is_cancelled() {
                return Err(Cancelled);
            }
            for lane in 0..N {
                // SAFETY: all three are blocks of this memory. The block before and the one mixed in are
                // complete, and neither is the target, which nobody else is at.
                unsafe {
                    self.kernel
                        .compress(previous[lane], mixed[lane], target[lane], over)
                };
                previous[lane] = target[lane];
                if index + 1 < length {
                    target[lane] = self.block(segments[lane].lane, slice * length + index + 1);
                    mixed[lane] = find(lane, index + 1, previous[lane]);
                    prefetch(mixed[lane]);
                    prefetch(target[lane]);
                }
            }
        }
        Ok(())
    }
}

/// The words that decide where a segment is mixed with, when the password does not (RFC 9106 section 3.4.1.2).
struct Addresses {
    input: Block,
    words: Block,
    batch: Option<u32>,
}

impl Addresses {
    const COUNTER: usize = 6;

    fn new(memory: &Memory, Segment { pass, slice, lane }: Segment) -> Self {
        let Parameters { variant, passes, .. } = memory.parameters;
        let mut input = Block::ZERO;
        let facts = [
            pass.into(),
            lane.into(),
            slice.into(),
            memory.parameters.blocks(),
            passes.into(),
            variant as u64,
        ];
        for (word, fact) in facts.into_iter().enumerate() {
            input.0[memory.kernel.place(word)] = fact;
        }
        Self {
            input,
            words: Block::ZERO,
            batch: None,
        }
    }

    /// Find the word of a block; indexes never go down.
    #[inline]
    fn word(&mut self, kernel: Kernel, index: u32) -> u64 {
        let batch = index / ADDRESSES;
        if self.batch != Some(batch) {
            self.batch = Some(batch);
            self.input.0[kernel.place(Self::COUNTER)] = u64::from(batch) + 1;
            let mut once = Block::ZERO;
            // SAFETY: four blocks of this function and this object, all different.
            unsafe {
                kernel.compress(&Block::ZERO, &self.input, &mut once, false);
                kernel.compress(&Block::ZERO, &once, &mut self.words, false);
            }
        }
        self.words.0[kernel.place((index % ADDRESSES) as usize)]
    }
}

/// Ask for a block that will be needed soon.
#[inline(always)]
fn prefetch(block: *const Block) {
    const LINE: usize = 64;
    for line in 0..BLOCK_SIZE / LINE {
        let line = block.cast::<i8>().wrapping_add(line * LINE);
        // SAFETY: a hint, which touches nothing that a program sees.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line);
        }
        // SAFETY: a hint, which touches nothing that a program sees.
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{}]", in(reg) line, options(nostack, readonly, preserves_flags));
        }
        #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
        let _ = line;
    }
}
