//! How many cores this process may use.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Count the cores this process may use; asked of the system once.
pub(crate) fn usable() -> usize {
    static CORES: AtomicUsize = AtomicUsize::new(0);
    match CORES.load(Ordering::Relaxed) {
        0 => {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            CORES.store(cores, Ordering::Relaxed);
            cores
        }
        known => known,
    }
}
