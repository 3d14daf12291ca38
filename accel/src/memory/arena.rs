//! One stretch of memory, aligned for every kernel, on huge pages where the system gives them.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// The system has no memory of that size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// The size of a huge page on x86-64 and arm64, bytes. Memory of at least two of them is laid out for them.
const HUGE_PAGE: usize = 2 << 20;

/// What every kernel is content with, bytes.
const ALIGNMENT: usize = 64;

/// Owned memory of unspecified content. It is wiped before it goes back to the system.
pub(crate) struct Arena {
    start: NonNull<u8>,
    size: usize,
    mapped: bool,
}

// SAFETY: an arena owns its memory, which has no ties to a thread.
unsafe impl Send for Arena {}

impl Arena {
    /// Map at least `size` bytes of its own, given back to the system as soon as it is dropped.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` when the system refuses.
    pub(crate) fn map(size: usize) -> Result<Self, OutOfMemory> {
        let size = size.checked_next_multiple_of(HUGE_PAGE).ok_or(OutOfMemory)?;
        match system::map(size, HUGE_PAGE) {
            Some(start) => Ok(Self {
                start,
                size,
                mapped: true,
            }),
            None => Err(OutOfMemory),
        }
    }

    /// Take `size` bytes from the allocator: right for small sizes, which it has at hand.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` when the allocator has none.
    pub(crate) fn allocate(size: usize) -> Result<Self, OutOfMemory> {
        let start = allocator::take(size).ok_or(OutOfMemory)?;
        Ok(Self {
            start,
            size,
            mapped: false,
        })
    }

    /// Say where the memory starts.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Say how much memory there is, bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Return mapped memory as it is: wiping would bring pages back that the process has not got.
    pub(crate) fn forget(self) {
        let arena = std::mem::ManuallyDrop::new(self);
        if arena.mapped {
            // SAFETY: the memory is this arena's, and its drop, which would return it again, is not run.
            unsafe { system::unmap(arena.start, arena.size) };
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the memory is this arena's, `size` bytes, and from here on nobody else's. The fence keeps
        // the compiler from leaving out the writes as never read.
        unsafe {
            self.start.as_ptr().write_bytes(0, self.size);
            std::hint::black_box(self.start.as_ptr());
            std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
            if self.mapped {
                system::unmap(self.start, self.size);
            } else {
                allocator::give_back(self.start, self.size);
            }
        }
    }
}

mod allocator {
    use super::{ALIGNMENT, NonNull};
    use std::alloc::{Layout, alloc, dealloc};

    pub(super) fn take(size: usize) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).ok()?;
        // SAFETY: the size is not zero.
        NonNull::new(unsafe { alloc(layout) })
    }

    /// # Safety
    ///
    /// `start` is from `take` with this size and not used any more.
    pub(super) unsafe fn give_back(start: NonNull<u8>, size: usize) {
        // SAFETY: `take` made the same layout.
        unsafe {
            dealloc(
                start.as_ptr(),
                Layout::from_size_align_unchecked(size.max(1), ALIGNMENT),
            )
        }
    }
}

#[cfg(all(unix, not(miri)))]
mod system {
    use super::NonNull;
    use std::ptr::null_mut;

    /// Map `size` bytes, a multiple of `alignment`, at a multiple of it.
    pub(super) fn map(size: usize, alignment: usize) -> Option<NonNull<u8>> {
        let wider = size.checked_add(alignment)?;
        if size > physical() {
            return None;
        }
        // SAFETY: a new mapping touches no memory in use; what is unmapped is part of it and never used.
        unsafe {
            let mapped = libc::mmap(
                null_mut(),
                wider,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON,
                -1,
                0,
            );
            if mapped == libc::MAP_FAILED {
                return None;
            }
            let before = mapped.cast::<u8>().align_offset(alignment);
            let start = mapped.cast::<u8>().add(before);
            if before > 0 {
                libc::munmap(mapped, before);
            }
            libc::munmap(start.add(size).cast(), alignment - before);
            advise(start.cast(), size);
            NonNull::new(start)
        }
    }

    /// Count the machine's memory, bytes. Some systems promise more, and end the process when it is used.
    fn physical() -> usize {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            // SAFETY: questions to the system that change nothing.
            let (pages, page) = unsafe {
                (
                    libc::sysconf(libc::_SC_PHYS_PAGES),
                    libc::sysconf(libc::_SC_PAGESIZE),
                )
            };
            if let (Ok(pages), Ok(page)) = (usize::try_from(pages), usize::try_from(page)) {
                return pages.saturating_mul(page);
            }
        }
        usize::MAX
    }

    /// Ask for huge pages, and that neither a forked child nor a core dump gets what is in them. A system
    /// that knows no such thing says so, and nothing is lost.
    ///
    /// # Safety
    ///
    /// The mapping is the caller's.
    unsafe fn advise(start: *mut libc::c_void, size: usize) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // SAFETY: the advice changes nothing that this process sees.
        unsafe {
            libc::madvise(start, size, libc::MADV_HUGEPAGE);
            libc::madvise(start, size, libc::MADV_WIPEONFORK);
            libc::madvise(start, size, libc::MADV_DONTDUMP);
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (start, size);
    }

    /// # Safety
    ///
    /// `start` is from `map` with this size and not used any more.
    pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) {
        // SAFETY: as the caller's.
        unsafe { libc::munmap(start.as_ptr().cast(), size) };
    }
}

#[cfg(any(not(unix), miri))]
mod system {
    use super::{NonNull, allocator};

    pub(super) fn map(size: usize, _alignment: usize) -> Option<NonNull<u8>> {
        allocator::take(size)
    }

    /// # Safety
    ///
    /// As for `allocator::give_back`.
    pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) {
        // SAFETY: as the caller's.
        unsafe { allocator::give_back(start, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of both kinds is as large as asked, aligned, and writable to its end.
    #[test]
    fn both_kinds() {
        let kinds: [fn(usize) -> Result<Arena, OutOfMemory>; 2] = [Arena::map, Arena::allocate];
        for arena in kinds.map(|take| take(3 << 20).expect("3 MiB")) {
            assert!(arena.size() >= 3 << 20);
            assert_eq!(arena.start().as_ptr().align_offset(ALIGNMENT), 0);
            // SAFETY: the last byte of the arena.
            unsafe { arena.start().as_ptr().add(arena.size() - 1).write(1) };
        }
    }

    /// Memory no system has is refused.
    #[test]
    #[cfg_attr(miri, ignore = "Miri stops when there is no memory")]
    fn refused() {
        assert_eq!(
            Arena::map(isize::MAX as usize - (8 << 20)).err(),
            Some(OutOfMemory)
        );
        assert_eq!(Arena::map(usize::MAX).err(), Some(OutOfMemory));
        assert_eq!(Arena::allocate(isize::MAX as usize).err(), Some(OutOfMemory));
    }
}
