//! What is kept for the next hash: bounded, returned when idle, and this process's alone.
//!
//! A forked child makes a new [`Kept`] at its first use, told by the process number. The parent's lock,
//! which another thread may hold for ever in the child, is never waited for there.
#![allow(unsafe_code)]

use std::ops::Deref;
use std::process;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Arena, OutOfMemory};

/// Memory kept at most, bytes: two hashes at the deployed create tuning.
const KEPT_AT_MOST: usize = 512 << 20;

/// How long memory is kept unused.
const IDLE: Duration = Duration::from_secs(3);

/// Up to this size memory is the allocator's, wiped after every hash and never kept, bytes. So a small
/// hash needs no timer.
const SMALL: usize = 1 << 20;

/// Memory is not used for a hash that needs less than this part of it: it may be wanted whole.
const SMALLEST_PART: usize = 8;

/// Memory for one hash; kept for the next when dropped.
pub(crate) struct Borrowed(Option<Arena>);

impl Deref for Borrowed {
    type Target = Arena;

    fn deref(&self) -> &Arena {
        self.0.as_ref().expect("there is an arena until the drop")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(arena) = self.0.take().filter(|arena| arena.size() > SMALL) {
            Kept::here().put(arena);
        }
    }
}

/// Find memory for one hash, of unspecified content: kept memory where there is enough, or new.
///
/// # Errors
///
/// `OutOfMemory` when the system has none.
pub(crate) fn borrow(size: usize) -> Result<Borrowed, OutOfMemory> {
    if size <= SMALL {
        return Ok(Borrowed(Some(Arena::allocate(size)?)));
    }
    let arena = match Kept::here().take(size) {
        Some(arena) => arena,
        None => Arena::map(size)?,
    };
    Ok(Borrowed(Some(arena)))
}

/// Count the memory kept for the next hash, KiB; what hashes are using now is not in it.
pub fn held_kib() -> u64 {
    (Kept::here().lock().size() / 1024) as u64
}

/// Wipe the memory kept for the next hash and return it to the system now.
pub fn release() {
    Kept::here().clear();
}

/// Memory unused, and since when; the longest unused first.
#[derive(Default)]
struct Shelf {
    arenas: Vec<(Arena, Instant)>,
    timer: bool,
}

impl Shelf {
    fn size(&self) -> usize {
        self.arenas.iter().map(|(arena, _)| arena.size()).sum()
    }

    /// Take off what has been unused longest, until `room` bytes more may be kept.
    fn make_room(&mut self, room: usize) -> Vec<Arena> {
        let mut off = Vec::new();
        while !self.arenas.is_empty() && self.size() + room > KEPT_AT_MOST {
            off.push(self.arenas.remove(0).0);
        }
        off
    }
}

struct Kept {
    process: u32,
    shelf: Mutex<Shelf>,
    emptied: Condvar,
}

impl Kept {
    /// Find what this process keeps.
    fn here() -> &'static Self {
        static HERE: AtomicPtr<Kept> = AtomicPtr::new(null_mut());
        let process = process::id();
        let found = HERE.load(Ordering::Acquire);
        // SAFETY: the pointer is null or from `Box::leak` below, and never freed.
        if let Some(kept) = unsafe { found.as_ref() }
            && kept.process == process
        {
            return kept;
        }
        let mine: *mut Self = Box::leak(Box::new(Self {
            process,
            shelf: Mutex::default(),
            emptied: Condvar::new(),
        }));
        match HERE.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: as above. In a child this is the parent's: what it kept is unmapped here, unless a
                // thread of the parent was at it during the fork.
                if let Some(parents) = unsafe { found.as_ref() }
                    && let Ok(mut shelf) = parents.shelf.try_lock()
                {
                    shelf.arenas.drain(..).for_each(|(arena, _)| arena.forget());
                }
                // SAFETY: made above and never freed.
                unsafe { &*mine }
            }
            Err(others) => {
                // SAFETY: another thread was first; nobody has seen the one made above.
                drop(unsafe { Box::from_raw(mine) });
                // SAFETY: what the other thread put there is never freed.
                unsafe { &*others }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take the smallest memory that is enough; where there is none, make room for new.
    fn take(&self, size: usize) -> Option<Arena> {
        let mut shelf = self.lock();
        let enough = |arena: &Arena| arena.size() >= size && arena.size() / SMALLEST_PART <= size;
        let found = (0..shelf.arenas.len())
            .filter(|&i| enough(&shelf.arenas[i].0))
            .min_by_key(|&i| shelf.arenas[i].0.size());
        if let Some(i) = found {
            return Some(shelf.arenas.remove(i).0);
        }
        let off = shelf.make_room(size.min(KEPT_AT_MOST));
        drop(shelf); // wiping takes a while, and nobody need wait for it
        drop(off);
        None
    }

    fn put(&'static self, arena: Arena) {
        if arena.size() > KEPT_AT_MOST {
            return;
        }
        let mut shelf = self.lock();
        let off = shelf.make_room(arena.size());
        shelf.arenas.push((arena, Instant::now()));
        if !shelf.timer {
            let started = std::thread::Builder::new()
                .name("tuned-digest-idle".into())
                .spawn(|| self.wait_idle());
            shelf.timer = started.is_ok();
        }
        let homeless = if shelf.timer {
            Vec::new()
        } else {
            std::mem::take(&mut shelf.arenas)
        };
        drop(shelf);
        drop((off, homeless));
    }

    /// Return memory as it has been unused for long enough, until there is none.
    fn wait_idle(&self) {
        let mut shelf = self.lock();
        while let Some((_, since)) = shelf.arenas.first() {
            let left = IDLE.saturating_sub(since.elapsed());
            if left.is_zero() {
                let arena = shelf.arenas.remove(0);
                drop(shelf);
                drop(arena);
                shelf = self.lock();
            } else {
                shelf = self
                    .emptied
                    .wait_timeout(shelf, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        shelf.timer = false;
    }

    fn clear(&self) {
        let arenas = std::mem::take(&mut self.lock().arenas);
        self.emptied.notify_all();
        drop(arenas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    fn arenas(sizes: &[usize]) -> Shelf {
        let since = Instant::now();
        Shelf {
            arenas: sizes
                .iter()
                .map(|&s| (Arena::map(s).expect("memory"), since))
                .collect(),
            timer: false,
        }
    }

    /// What is kept stays below the bound: the longest unused goes first.
    #[test]
    #[cfg_attr(miri, ignore = "large")]
    fn bounded() {
        const MIB: usize = 1 << 20;
        let mut shelf = arenas(&[64 * MIB, 128 * MIB, 256 * MIB]);
        assert!(shelf.make_room(64 * MIB).is_empty());
        let off: Vec<_> = shelf.make_room(192 * MIB).iter().map(Arena::size).collect();
        assert_eq!(off, [64 * MIB, 128 * MIB]);
        assert_eq!(shelf.size(), 256 * MIB);
    }

    /// Memory is kept after use, found again, never for a hash far smaller, and gone after `release`.
    #[test]
    fn kept_and_found_again() {
        static KEPT: LazyLock<Kept> = LazyLock::new(|| Kept {
            process: 0,
            shelf: Mutex::default(),
            emptied: Condvar::new(),
        });
        let kept: &'static Kept = &KEPT;
        assert!(kept.take(4 << 20).is_none());
        let arena = Arena::map(32 << 20).expect("memory");
        let start = arena.start();
        kept.put(arena);
        assert!(kept.lock().timer);
        assert!(kept.take(64 << 20).is_none());
        assert!(kept.take(2 << 20).is_none());
        let again = kept.take(30 << 20).expect("kept memory");
        assert_eq!(again.start(), start);
        kept.put(again);
        kept.clear();
        assert_eq!(kept.lock().size(), 0);
        while kept.lock().timer {
            std::thread::yield_now();
        }
    }
}
