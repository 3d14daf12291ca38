//! One piece of work, watched and stopped from another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The work was stopped.
#[derive(Debug, PartialEq, Eq)]
pub struct Cancelled;

/// One piece of work: how far it is, and whether it is still wanted.
#[derive(Debug, Default)]
pub struct Job {
    cancelled: AtomicBool,
    tried: AtomicU64,
}

impl Job {
    /// Stop the work, for good.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Say whether the work is to stop. Cheap enough to ask every hundredth of a millisecond.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Count the candidates a search has tried so far.
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    pub(crate) fn add_tried(&self, candidates: u64) {
        self.tried.fetch_add(candidates, Ordering::Relaxed);
    }
}
