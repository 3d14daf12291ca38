//! The smallest number whose BLAKE3 digest with a string starts with enough zero bits.
//!
//! The digest is of the string and four bytes more, the number, little-endian. What does not depend on the
//! number is compressed once ([`message`]); the rest for 4 to 16 numbers at a time ([`kernels`]).

mod kernels;
mod message;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::cores;
use crate::job::{Cancelled, Job};
use crate::processor::KernelName;
use kernels::Kernel;
use message::Message;

/// Numbers there are: those of 32 bits.
pub const CANDIDATES: u64 = 1 << 32;

/// Numbers tried at a time, and between two looks at the job: a millisecond at most.
const BATCH: u64 = 1 << 14;

/// The same where every number costs a whole digest.
const BATCH_OF_DIGESTS: u64 = 1 << 10;

/// Batches before more threads are started: most searches of few bits end in them.
const BATCHES_ALONE: u64 = 2;

/// Zero bits to find: 1 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(u32);

impl Bits {
    /// Check the number of bits.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a sentence.
    pub fn new(bits: u64) -> Result<Self, String> {
        match bits {
            1..=32 => Ok(Self(bits as u32)),
            _ => Err(format!("a search cost is 1 to 32 bits, not {bits}")),
        }
    }

    /// Mark, in the digest's first word as BLAKE3 counts it, little-endian, the bits that are to be zero:
    /// the first ones of its bytes as a big-endian number.
    fn mask(self) -> u32 {
        (u32::MAX << (32 - self.0)).swap_bytes()
    }
}

/// Find the smallest of some numbers that will do, on at most `threads` threads, this one among them.
///
/// # Errors
///
/// `Cancelled` when the job was cancelled.
pub fn search(
    kernel: KernelName,
    string: &[u8],
    bits: Bits,
    numbers: Range<u64>,
    threads: usize,
    job: &Job,
) -> Result<Option<u32>, Cancelled> {
    let message = Message::new(string);
    let search = Search {
        batch: if message.is_fixed() {
            BATCH
        } else {
            BATCH_OF_DIGESTS
        },
        message: &message,
        kernel: Kernel::of(kernel),
        mask: bits.mask(),
        end: numbers.end.min(CANDIDATES),
        job,
        next: AtomicU64::new(numbers.start),
        found: AtomicU64::new(NOTHING),
    };
    search.try_batches(BATCHES_ALONE);
    if !search.is_over() {
        let threads = if threads > 1 {
            threads.min(cores::usable())
        } else {
            1
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // Where the system has no more threads, the others do the work.
                let _ = thread::Builder::new().spawn_scoped(scope, || search.try_batches(u64::MAX));
            }
            search.try_batches(u64::MAX);
        });
    }
    match search.found.into_inner() {
        NOTHING if job.is_cancelled() => Err(Cancelled),
        NOTHING => Ok(None),
        n => Ok(Some(n as u32)), // found below 2**32
    }
}

/// Say whether a number will do.
pub fn holds(string: &[u8], n: u32, bits: Bits) -> bool {
    Message::new(string).first_word(n) & bits.mask() == 0
}

/// Greater than every number.
const NOTHING: u64 = u64::MAX;

struct Search<'a> {
    message: &'a Message,
    kernel: Kernel,
    mask: u32,
    end: u64,
    batch: u64,
    job: &'a Job,
    next: AtomicU64,
    found: AtomicU64,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        next >= self.end || next > self.found.load(Ordering::Relaxed) || self.job.is_cancelled()
    }

    /// Try batches until the search is over, or so many are tried.
    ///
    /// Batches are handed out from the smallest numbers up and each is finished once begun, so all numbers
    /// below one that is found have been tried when all threads are through.
    fn try_batches(&self, batches: u64) {
        for _ in 0..batches {
            if self.is_over() {
                return;
            }
            let first = self.next.fetch_add(self.batch, Ordering::Relaxed);
            let end = (first + self.batch).min(self.end);
            if first >= end {
                return;
            }
            let hit = self.try_all(first, end);
            self.job.add_tried(hit.map_or(end, |n| n + 1) - first);
            if let Some(n) = hit {
                self.found.fetch_min(n, Ordering::Relaxed);
                return;
            }
        }
    }

    fn try_all(&self, first: u64, end: u64) -> Option<u64> {
        match self.message {
            Message::Fixed(fixed) => self.kernel.scan(fixed, first, end, self.mask),
            Message::Whole(_) => (first..end).find(|&n| self.message.first_word(n as u32) & self.mask == 0),
        }
    }
}
