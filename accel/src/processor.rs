//! Which kernels the processor offers, and which one is used.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// The variable that asks for a lower kernel.
const VARIABLE: &str = "TUNED_DIGEST_KERNEL";

/// A kernel, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KernelName {
    Avx512 = 1,
    Avx2,
    Sse2,
    Neon,
    Portable,
}

const ALL: [KernelName; 5] = [
    KernelName::Avx512,
    KernelName::Avx2,
    KernelName::Sse2,
    KernelName::Neon,
    KernelName::Portable,
];

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Sse2 => "sse2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        })
    }
}

impl KernelName {
    /// Say whether the processor, and the system, offer what the kernel needs.
    pub fn offered(self) -> bool {
        match self {
            // Miri interprets the portable kernel alone.
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Sse2 => true,
            #[cfg(all(target_arch = "aarch64", not(miri)))]
            Self::Neon => true,
            Self::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// List the kernels this processor offers, the fastest first.
    pub fn all_offered() -> impl Iterator<Item = Self> {
        ALL.into_iter().filter(|name| name.offered())
    }
}

/// Name the kernel in use: the one `TUNED_DIGEST_KERNEL` asks for, or the fastest one offered.
///
/// Chosen at the first call that succeeds; there is no lock that a fork could leave held.
///
/// # Errors
///
/// What is wrong with the variable, in a sentence.
pub fn kernel() -> Result<KernelName, String> {
    static CHOSEN: AtomicU8 = AtomicU8::new(0);
    let chosen = CHOSEN.load(Ordering::Relaxed);
    if let Some(name) = ALL.into_iter().find(|&name| name as u8 == chosen) {
        return Ok(name);
    }
    let name = match std::env::var_os(VARIABLE).filter(|asked| !asked.is_empty()) {
        Some(asked) => asked_for(&asked.to_string_lossy())?,
        None => KernelName::all_offered().next().unwrap_or(KernelName::Portable),
    };
    CHOSEN.store(name as u8, Ordering::Relaxed);
    Ok(name)
}

fn asked_for(asked: &str) -> Result<KernelName, String> {
    match ALL.into_iter().find(|name| name.to_string() == asked) {
        Some(name) if name.offered() => Ok(name),
        Some(name) => Err(format!(
            "{VARIABLE}={name}: this processor does not offer it; it offers {}",
            list(KernelName::all_offered())
        )),
        None => Err(format!(
            "{VARIABLE}={asked:?}: not a kernel; the kernels are {}",
            list(ALL)
        )),
    }
}

fn list(names: impl IntoIterator<Item = KernelName>) -> String {
    names
        .into_iter()
        .map(|name| name.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel is found by its name; the portable one is always offered.
    #[test]
    fn names() {
        assert_eq!(asked_for("portable"), Ok(KernelName::Portable));
        for name in KernelName::all_offered() {
            assert_eq!(asked_for(&name.to_string()), Ok(name));
        }
    }

    /// A kernel the processor lacks, and one that does not exist, are refused in a sentence.
    #[test]
    fn refusals() {
        let lacking = ALL
            .into_iter()
            .find(|name| !name.offered())
            .expect("no processor has both NEON and AVX2");
        assert!(
            asked_for(&lacking.to_string())
                .unwrap_err()
                .contains("does not offer it")
        );
        assert!(asked_for("mmx").unwrap_err().contains("not a kernel"));
    }
}
