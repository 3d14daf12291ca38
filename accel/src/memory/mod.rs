//! The memory of the hashes: mapped once, used again, wiped when it is returned.

mod arena;
mod kept;

pub(crate) use arena::{Arena, OutOfMemory};
pub(crate) use kept::{Borrowed, borrow};
pub use kept::{held_kib, release};
