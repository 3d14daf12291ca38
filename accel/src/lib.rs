//! The work of tuned-digest on the fastest kernels the processor offers.
//!
//! `argon2` hashes (RFC 9106), `search` looks for a number whose BLAKE3 digest with a string starts with
//! zero bits. Both take a [`Job`], through which another thread watches and stops them. Nothing is
//! allocated and no thread is started before the first call. `unsafe` is allowed in the kernels, in the
//! memory and where lanes share it, and nowhere else.

pub mod argon2;
mod cores;
mod job;
mod memory;
mod processor;
#[cfg(feature = "python")]
mod python;
pub mod search;

pub use job::{Cancelled, Job};
pub use memory::{held_kib, release};
pub use processor::{KernelName, kernel};
