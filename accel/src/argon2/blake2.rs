//! The ends of Argon2: BLAKE2b before the memory is filled and after (RFC 9106 sections 3.2 and 3.3).

use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest};

use super::kernels::BLOCK_SIZE;
use super::{HASH_SIZE, Parameters};

const VERSION: u32 = 0x13;

/// Bytes of the longest BLAKE2b digest, and how many of them a longer output takes from each.
const LONGEST: usize = 64;
const TAKEN: usize = LONGEST / 2;

/// What every lane begins with, `H_0`.
pub(super) type Seed = [u8; LONGEST];

/// Digest all inputs.
pub(super) fn seed(password: &[u8], salt: &[u8], parameters: Parameters) -> Seed {
    let Parameters {
        variant,
        memory_kib,
        passes,
        lanes,
    } = parameters;
    let mut state = Blake2b512::new();
    for number in [
        lanes,
        HASH_SIZE as u32,
        memory_kib,
        passes,
        VERSION,
        variant as u32,
    ] {
        state.update(number.to_le_bytes());
    }
    for input in [password, salt, b"", b""] {
        state.update((input.len() as u32).to_le_bytes()); // at most 2**32 - 1, as checked before
        state.update(input);
    }
    state.finalize().into()
}

/// Digest a seed to one of the first blocks of a lane: `H'` of 1 KiB.
pub(super) fn first_block(seed: &Seed, block: u32, lane: u32) -> [u8; BLOCK_SIZE] {
    let mut output = [0; BLOCK_SIZE];
    let state = Blake2b512::new()
        .chain_update((BLOCK_SIZE as u32).to_le_bytes())
        .chain_update(seed);
    let mut digest = state
        .chain_update(block.to_le_bytes())
        .chain_update(lane.to_le_bytes())
        .finalize();
    let (taken, last) = output.split_at_mut(BLOCK_SIZE - LONGEST);
    for part in taken.chunks_exact_mut(TAKEN) {
        part.copy_from_slice(&digest[..TAKEN]);
        digest = Blake2b512::digest(digest);
    }
    last.copy_from_slice(&digest);
    output
}

/// Digest the sum of the last blocks to the hash: `H'` of 32 bytes.
pub(super) fn hash(sum: &[u8; BLOCK_SIZE]) -> [u8; HASH_SIZE] {
    Blake2b::<U32>::new()
        .chain_update((HASH_SIZE as u32).to_le_bytes())
        .chain_update(sum)
        .finalize()
        .into()
}
