//! Whole hashes against another implementation.

use super::*;
use proptest::prelude::*;

fn expected(password: &[u8], salt: &[u8], parameters: Parameters) -> [u8; HASH_SIZE] {
    let algorithm = match parameters.variant {
        Variant::D => argon2::Algorithm::Argon2d,
        Variant::I => argon2::Algorithm::Argon2i,
        Variant::Id => argon2::Algorithm::Argon2id,
    };
    let costs = argon2::Params::new(
        parameters.memory_kib,
        parameters.passes,
        parameters.lanes,
        Some(HASH_SIZE),
    );
    let mut hash = [0; HASH_SIZE];
    argon2::Argon2::new(algorithm, argon2::Version::V0x13, costs.expect("in range"))
        .hash_password_into(password, salt, &mut hash)
        .expect("a hash");
    hash
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let variant = prop_oneof![Just(Variant::D), Just(Variant::I), Just(Variant::Id)];
    let memory = if cfg!(miri) { 9_u64 } else { 700 };
    (variant, 1_u64..10, 8..memory, 1_u64..4).prop_map(|(variant, lanes, memory, passes)| {
        Parameters::new(variant, memory.max(8 * lanes), passes, lanes).expect("in range")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: if cfg!(miri) { 3 } else { 150 }, ..ProptestConfig::default() })]

    /// Every kernel gives the hash another implementation gives, whatever the parameters and threads.
    #[test]
    fn agree(
        parameters in parameters(),
        password in prop::collection::vec(any::<u8>(), 0..300),
        salt in prop::collection::vec(any::<u8>(), 8..49),
        threads in 1_usize..5,
    ) {
        let expected = expected(&password, &salt, parameters);
        for name in KernelName::all_offered() {
            let hash = hash(name, &password, &salt, parameters, threads, &Job::default());
            prop_assert_eq!(hash, Ok(expected), "{}", name);
        }
    }
}

/// Threads that are started give the same hash, in memory that has been used before.
#[test]
#[cfg_attr(miri, ignore = "large")]
fn threads_and_used_memory() {
    for variant in [Variant::D, Variant::I, Variant::Id] {
        let parameters = Parameters::new(variant, 8192, 2, 5).expect("in range");
        let expected = expected(b"password", b"saltsalt", parameters);
        for threads in 1..7 {
            let hash = hash(
                KernelName::Portable,
                b"password",
                b"saltsalt",
                parameters,
                threads,
                &Job::default(),
            );
            assert_eq!(hash, Ok(expected));
        }
    }
}

/// A cancelled job ends in an error, before it begins and in the middle, on one thread and on several.
#[test]
#[cfg_attr(miri, ignore = "large")]
fn cancelled() {
    let parameters = Parameters::new(Variant::D, 8192, u32::MAX.into(), 4).expect("in range");
    for threads in [1, 2, 4] {
        let job = Job::default();
        std::thread::scope(|scope| {
            let hash = scope.spawn(|| {
                hash(
                    KernelName::Portable,
                    b"password",
                    b"saltsalt",
                    parameters,
                    threads,
                    &job,
                )
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            job.cancel();
            assert_eq!(hash.join().expect("no panic"), Err(Failure::Cancelled));
        });
        let hash = hash(KernelName::Portable, b"", b"", parameters, threads, &job);
        assert_eq!(hash, Err(Failure::Cancelled));
    }
}

/// Parameters outside RFC 9106 are refused, in a sentence.
#[test]
fn refused() {
    for (memory, passes, lanes) in [
        (7, 1, 1),
        (15, 1, 2),
        (8, 0, 1),
        (8, 1, 0),
        (1 << 32, 1, 1),
        (8, 1 << 32, 1),
        (1 << 31, 1, 1 << 24),
    ] {
        assert!(Parameters::new(Variant::D, memory, passes, lanes).is_err());
    }
    assert!(Parameters::new(Variant::D, (1 << 32) - 1, (1 << 32) - 1, (1 << 24) - 1).is_ok());
}
