//! Which block each block is mixed with (RFC 9106 section 3.4).

use super::{Parameters, SLICES};

/// A segment: the blocks of one lane in one slice of one pass.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) pass: u32,
    pub(super) slice: u32,
    pub(super) lane: u32,
}

/// Find the lane, and the block in it, that block `index` of a segment is mixed with.
///
/// `random` is the word that decides. What it finds is always complete: earlier in this segment, or in
/// another slice than the one being filled.
#[inline]
pub(super) fn reference(parameters: &Parameters, segment: Segment, index: u32, random: u64) -> (u32, u32) {
    let Segment { pass, slice, lane } = segment;
    let length = parameters.segment();
    let (near, far) = (random as u32, (random >> 32) as u32);
    let chosen = if pass == 0 && slice == 0 {
        lane
    } else {
        far % parameters.lanes
    };
    let complete = if pass == 0 { slice } else { SLICES - 1 } * length; // blocks of each lane in other slices
    let area = if chosen == lane {
        complete + index - 1 // all but the block before this one
    } else {
        complete - u32::from(index == 0)
    };
    let square = (u64::from(near) * u64::from(near)) >> 32;
    let back = ((u64::from(area) * square) >> 32) as u32;
    let first = if pass == 0 {
        0
    } else {
        (slice + 1) % SLICES * length
    };
    let block = first + (area - 1 - back);
    let lane_length = length * SLICES;
    (
        chosen,
        if block >= lane_length {
            block - lane_length
        } else {
            block
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::Variant;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A block is never mixed with itself, with the one before it twice, or with one that another lane may be
        /// writing.
        #[test]
        fn only_complete_blocks(
            memory in 8_u64..4000, lanes in 1_u64..8, pass in 0_u32..3, slice in 0_u32..4, index: u32, lane: u32,
            random: u64,
        ) {
            let parameters = Parameters::new(Variant::D, memory.max(8 * lanes), 3, lanes).expect("in range");
            let length = parameters.segment();
            let lane = lane % parameters.lanes;
            let index = if pass == 0 && slice == 0 { 2 + index % (length - 1) } else { index % length };
            prop_assume!(index < length);
            let (chosen, block) = reference(&parameters, Segment { pass, slice, lane }, index, random);
            prop_assert!(chosen < parameters.lanes && block < 4 * length);
            let of_slice = block / length;
            if chosen == lane {
                let here = slice * length + index;
                prop_assert_ne!(block, here);
                prop_assert_ne!(block, (here + 4 * length - 1) % (4 * length));
                prop_assert!(pass > 0 || block < here);
            } else {
                prop_assert_ne!(of_slice, slice);
                prop_assert!(pass > 0 || of_slice < slice);
            }
        }
    }
}
