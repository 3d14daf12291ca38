//! Who fills what when: threads take turns at groups of lanes, and no slice begins before the last is complete.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use super::SLICES;
use super::fill::{LANES_IN_TURN, Memory};
use crate::cores;
use crate::job::{Cancelled, Job};

/// Blocks in all passes up to which one thread is faster than the start of another.
const BLOCKS_FOR_ONE: u64 = 4096;

/// Looks at the turn before it before a thread goes to sleep: some hundredths of a millisecond.
const LOOKS: u32 = 2000;

/// Fill the memory, on at most `threads` threads, this one among them.
pub(super) fn fill(memory: &Memory, threads: usize, job: &Job) -> Result<(), Cancelled> {
    let lanes = memory.parameters().lanes;
    let blocks = memory.parameters().blocks() * u64::from(memory.parameters().passes);
    let threads = match threads.min(lanes as usize) {
        0 | 1 => 1,
        _ if blocks <= BLOCKS_FOR_ONE => 1,
        several => several.min(cores::usable()),
    };
    let turns = Turns::new(memory, threads as u32, job);
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no more threads, the others do the work.
            let _ = thread::Builder::new().spawn_scoped(scope, || turns.work());
        }
        turns.work()
    })
}

struct Turns<'a> {
    memory: &'a Memory,
    job: &'a Job,
    lanes_per_turn: u32,
    turns_per_slice: u64,
    turns: u64,
    next: AtomicU64,
    done: AtomicU64,
    stopped: AtomicBool,
    gate: Mutex<()>,
    opened: Condvar,
}

impl<'a> Turns<'a> {
    fn new(memory: &'a Memory, threads: u32, job: &'a Job) -> Self {
        let parameters = memory.parameters();
        let lanes_per_turn = parameters.lanes.div_ceil(threads).min(LANES_IN_TURN);
        let turns_per_slice = u64::from(parameters.lanes.div_ceil(lanes_per_turn));
        Self {
            memory,
            job,
            lanes_per_turn,
            turns_per_slice,
            turns: u64::from(parameters.passes) * u64::from(SLICES) * turns_per_slice,
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            gate: Mutex::new(()),
            opened: Condvar::new(),
        }
    }

    /// Take turns until there are none left, or the job is cancelled.
    fn work(&self) -> Result<(), Cancelled> {
        let stop = StopOnDrop(self);
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            if turn >= self.turns {
                std::mem::forget(stop);
                return self.wait_for(self.turns);
            }
            let slice = turn / self.turns_per_slice;
            self.wait_for(slice * self.turns_per_slice)?;
            let first = (turn % self.turns_per_slice) as u32 * self.lanes_per_turn;
            let lanes = first..(first + self.lanes_per_turn).min(self.memory.parameters().lanes);
            let (pass, slice) = (
                (slice / u64::from(SLICES)) as u32,
                (slice % u64::from(SLICES)) as u32,
            );
            // SAFETY: all turns of the slice before are done, and this turn is given out once.
            unsafe { self.memory.fill(pass, slice, lanes, self.job)? };
            let done = self.done.fetch_add(1, Ordering::AcqRel) + 1;
            if done.is_multiple_of(self.turns_per_slice) {
                self.open();
            }
        }
    }

    /// Wait until so many turns are done: a little awake, then asleep.
    fn wait_for(&self, turns: u64) -> Result<(), Cancelled> {
        let go_on = || self.done.load(Ordering::Acquire) >= turns || self.stopped.load(Ordering::Acquire);
        for _ in 0..LOOKS {
            if go_on() {
                break;
            }
            std::hint::spin_loop();
        }
        if !go_on() {
            let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.opened.wait_while(gate, |()| !go_on()));
        }
        if self.done.load(Ordering::Acquire) >= turns {
            Ok(())
        } else {
            Err(Cancelled)
        }
    }

    /// Wake those asleep. The lock makes sure that none is between its look and its sleep.
    fn open(&self) {
        drop(self.gate.lock());
        self.opened.notify_all();
    }
}

/// Lets nobody wait for a thread that has left its turn undone.
struct StopOnDrop<'a, 'b>(&'a Turns<'b>);

impl Drop for StopOnDrop<'_, '_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.open();
    }
}
