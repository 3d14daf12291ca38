//! The kernels against each other.

use super::*;
use proptest::prelude::*;

fn blocks() -> impl Strategy<Value = [Block; 3]> {
    any::<[u64; 3]>().prop_map(|seeds| {
        seeds.map(|seed| {
            let mut x = seed;
            Block(std::array::from_fn(|_| {
                x = x
                    .wrapping_mul(0x5851_f42d_4c95_7f2d)
                    .wrapping_add(0x1405_7b7e_f767_814f);
                x ^ x >> 29
            }))
        })
    })
}

/// Compress with a kernel, words in and out in their natural order.
fn compress(kernel: Kernel, [previous, reference, target]: &[Block; 3], over: bool) -> Block {
    let placed = |block: &Block| {
        let mut placed = Block::ZERO;
        (0..WORDS).for_each(|word| placed.0[kernel.place(word)] = block.0[word]);
        placed
    };
    let mut output = placed(target);
    // SAFETY: three blocks of this function, and the kernel is offered.
    unsafe { kernel.compress(&placed(previous), &placed(reference), &mut output, over) };
    Block(std::array::from_fn(|word| output.0[kernel.place(word)]))
}

/// Every order is a permutation that leaves the first word, which Argon2d reads, where it is.
#[test]
fn orders() {
    for name in KernelName::all_offered() {
        let kernel = Kernel::of(name);
        let mut places: Vec<_> = (0..WORDS).map(|word| kernel.place(word)).collect();
        assert_eq!(places[0], 0);
        places.sort_unstable();
        assert_eq!(places, (0..WORDS).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: if cfg!(miri) { 4 } else { 200 }, ..ProptestConfig::default() })]

    /// Every kernel the processor offers compresses as the portable one does.
    #[test]
    fn agree(blocks in blocks(), over: bool) {
        let expected = compress(Kernel::of(KernelName::Portable), &blocks, over);
        for name in KernelName::all_offered() {
            prop_assert_eq!(compress(Kernel::of(name), &blocks, over).0, expected.0, "{}", name);
        }
    }
}
