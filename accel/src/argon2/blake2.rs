//! The ends of Argon2: BLAKE2b before the memory is filled and after (RFC 9106 sections 3.2 and 3.3).

use blake2b_simd::{OUTBYTES, Params};

use super::{HASH_SIZE, Parameters};

const VERSION: u32 = 0x13;

/// Digest all inputs: the seed of every lane, `H_0`.
pub(super) fn seed(password: &[u8], salt: &[u8], parameters: Parameters) -> [u8; OUTBYTES] {
    let Parameters {
        variant,
        memory_kib,
        passes,
        lanes,
    } = parameters;
    let mut state = Params::new().hash_length(OUTBYTES).to_state();
    for number in [
        lanes,
        HASH_SIZE as u32,
        memory_kib,
        passes,
        VERSION,
        variant as u32,
    ] {
        state.update(&number.to_le_bytes());
    }
    for input in [password, salt, b"", b""] {
        state.update(&(input.len() as u32).to_le_bytes());
        state.update(input);
    }
    *state.finalize().as_array()
}

/// Digest parts into any number of bytes: `H'`.
pub(super) fn stretch(parts: &[&[u8]], output: &mut [u8]) {
    const STEP: usize = OUTBYTES / 2;
    let size = output.len();
    let mut state = Params::new().hash_length(size.min(OUTBYTES)).to_state();
    state.update(&(size as u32).to_le_bytes());
    for part in parts {
        state.update(part);
    }
    let mut digest = state.finalize();
    let mut written = 0;
    while size - written > OUTBYTES {
        output[written..written + STEP].copy_from_slice(&digest.as_bytes()[..STEP]);
        written += STEP;
        digest = Params::new()
            .hash_length((size - written).min(OUTBYTES))
            .hash(digest.as_bytes());
    }
    output[written..].copy_from_slice(digest.as_bytes());
}
