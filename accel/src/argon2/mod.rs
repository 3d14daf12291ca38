//! Argon2 d, i and id, version 0x13 (RFC 9106): 32 bytes out, no secret, no associated data.

mod blake2;
mod fill;
pub(crate) mod kernels;
mod reference;
#[cfg(test)]
mod tests;
mod turns;

use std::ops::RangeInclusive;

use crate::job::{Cancelled, Job};
use crate::memory::OutOfMemory;
use crate::processor::KernelName;

/// Bytes of a hash.
pub const HASH_SIZE: usize = 32;

/// Slices of a pass: the lanes wait for each other between them (RFC 9106 section 3.4).
const SLICES: u32 = 4;

/// RFC 9106 section 3.1.
const LANES: RangeInclusive<u64> = 1..=(1 << 24) - 1;
const PASSES: RangeInclusive<u64> = 1..=u32::MAX as u64;
const KIB_PER_LANE: u64 = 8;
const LENGTH_AT_MOST: u64 = u32::MAX as u64;

/// How the memory is read: as the password says, as the position says, or first the one, then the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Variant {
    D = 0,
    I = 1,
    Id = 2,
}

/// What a hash costs; within the ranges of RFC 9106.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    variant: Variant,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Parameters {
    /// Check the parameters.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them, in a sentence.
    pub fn new(variant: Variant, memory_kib: u64, passes: u64, lanes: u64) -> Result<Self, String> {
        if !LANES.contains(&lanes) {
            return Err(format!("lanes are 1 to {}, not {lanes}", LANES.end()));
        }
        if !PASSES.contains(&passes) {
            return Err(format!("passes are 1 to {}, not {passes}", PASSES.end()));
        }
        let memory = KIB_PER_LANE * lanes..=u64::from(u32::MAX);
        if !memory.contains(&memory_kib) {
            return Err(format!(
                "memory for {lanes} lanes is {} to {} KiB, not {memory_kib}",
                memory.start(),
                memory.end()
            ));
        }
        // Each fits: the ranges end below 2**32.
        Ok(Self {
            variant,
            memory_kib: memory_kib as u32,
            passes: passes as u32,
            lanes: lanes as u32,
        })
    }

    /// Count the blocks of a segment, the part of a lane in one slice.
    fn segment(&self) -> u32 {
        self.memory_kib / (SLICES * self.lanes)
    }

    /// Count the blocks of all lanes.
    fn blocks(&self) -> u64 {
        u64::from(self.segment() * SLICES) * u64::from(self.lanes)
    }
}

/// Why there is no hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The job was cancelled.
    Cancelled,
    /// The system has not that much memory.
    OutOfMemory,
    /// The password or the salt is longer than RFC 9106 has it.
    TooLong,
}

impl From<Cancelled> for Failure {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<OutOfMemory> for Failure {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Hash a password, on at most `threads` threads, this one among them.
///
/// # Errors
///
/// See [`Failure`].
pub fn hash(
    kernel: KernelName,
    password: &[u8],
    salt: &[u8],
    parameters: Parameters,
    threads: usize,
    job: &Job,
) -> Result<[u8; HASH_SIZE], Failure> {
    if password.len() as u64 > LENGTH_AT_MOST || salt.len() as u64 > LENGTH_AT_MOST {
        return Err(Failure::TooLong);
    }
    let kernel = kernels::Kernel::of(kernel);
    let memory = fill::Memory::borrow(kernel, parameters)?;
    memory.begin(&blake2::seed(password, salt, parameters), job)?;
    turns::fill(&memory, threads, job)?;
    Ok(memory.finish())
}
