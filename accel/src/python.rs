//! The Python module: arguments in, answers and exceptions out, the GIL released in between.

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};

use crate::argon2::{Failure, Parameters, Variant, hash};
use crate::search::{Bits, CANDIDATES, holds};
use crate::{Job, KernelName};

create_exception!(
    tuned_digest_native,
    Cancelled,
    PyException,
    "Say that a job was cancelled."
);

/// One piece of work, watched and stopped from another thread.
#[pyclass(name = "Job", module = "tuned_digest_native", frozen)]
#[derive(Default)]
struct PyJob(Job);

#[pymethods]
impl PyJob {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Stop the work within milliseconds, for good: work begun with this job later stops at once.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Count the candidates a search has tried so far; 0 for a hash.
    #[getter]
    fn tried(&self) -> u64 {
        self.0.tried()
    }
}

/// Hash a password with Argon2, version 0x13 (RFC 9106).
#[pyfunction]
#[pyo3(signature = (password, salt, *, variant, memory_kib, passes, lanes, threads, job=None))]
#[allow(clippy::too_many_arguments)]
fn argon2<'py>(
    py: Python<'py>,
    password: &[u8],
    salt: &[u8],
    variant: &str,
    memory_kib: &Bound<'py, PyInt>,
    passes: &Bound<'py, PyInt>,
    lanes: &Bound<'py, PyInt>,
    threads: &Bound<'py, PyInt>,
    job: Option<&Bound<'py, PyJob>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let variant = match variant {
        "argon2d" => Variant::D,
        "argon2i" => Variant::I,
        "argon2id" => Variant::Id,
        _ => {
            return Err(PyValueError::new_err(format!(
                "{variant:?} is not an Argon2 variant"
            )));
        }
    };
    let (memory_kib, passes, lanes) = (
        number("memory_kib", memory_kib)?,
        number("passes", passes)?,
        number("lanes", lanes)?,
    );
    let parameters = Parameters::new(variant, memory_kib, passes, lanes).map_err(PyValueError::new_err)?;
    let (kernel, threads) = (kernel_in_use()?, thread_count(threads)?);
    let unwatched = Job::default();
    let job = job.map_or(&unwatched, |job| &job.get().0);
    match py.detach(|| hash(kernel, password, salt, parameters, threads, job)) {
        Ok(hash) => Ok(PyBytes::new(py, &hash)),
        Err(Failure::Cancelled) => Err(Cancelled::new_err("the hash was cancelled")),
        Err(Failure::OutOfMemory) => Err(PyMemoryError::new_err(format!(
            "the system has no {memory_kib} KiB for a hash"
        ))),
        Err(Failure::TooLong) => Err(PyValueError::new_err(
            "a password and a salt have at most 2**32 - 1 bytes",
        )),
    }
}

/// Find the smallest number whose BLAKE3 digest with a string starts with enough zero bits.
#[pyfunction]
#[pyo3(
    signature = (string, *, bits, threads, first=None, candidates=None, job=None),
    text_signature = "(string, *, bits, threads, first=0, candidates=2**32, job=None)"
)]
fn search<'py>(
    py: Python<'py>,
    string: &[u8],
    bits: &Bound<'py, PyInt>,
    threads: &Bound<'py, PyInt>,
    first: Option<&Bound<'py, PyInt>>,
    candidates: Option<&Bound<'py, PyInt>>,
    job: Option<&Bound<'py, PyJob>>,
) -> PyResult<Option<u32>> {
    let bits = Bits::new(number("bits", bits)?).map_err(PyValueError::new_err)?;
    let first = first.map_or(Ok(0), |first| number("first", first))?;
    let candidates = candidates.map_or(Ok(CANDIDATES), |candidates| number("candidates", candidates))?;
    if candidates > CANDIDATES {
        return Err(PyValueError::new_err(format!(
            "candidates are 0 to 2**32, not {candidates}"
        )));
    }
    let (kernel, threads) = (kernel_in_use()?, thread_count(threads)?);
    let unwatched = Job::default();
    let job = job.map_or(&unwatched, |job| &job.get().0);
    py.detach(|| crate::search::search(kernel, string, bits, first..candidates, threads, job))
        .map_err(|_| Cancelled::new_err("the search was cancelled"))
}

/// Say whether a number's BLAKE3 digest with a string starts with enough zero bits.
#[pyfunction]
#[pyo3(signature = (string, n, *, bits))]
fn search_holds(string: &[u8], n: &Bound<'_, PyInt>, bits: &Bound<'_, PyInt>) -> PyResult<bool> {
    let bits = Bits::new(number("bits", bits)?).map_err(PyValueError::new_err)?;
    let n = number("n", n)?;
    let n = u32::try_from(n).map_err(|_| PyValueError::new_err(format!("n is 0 to 2**32 - 1, not {n}")))?;
    Ok(holds(string, n, bits))
}

/// Name the kernel in use.
#[pyfunction]
fn kernel() -> PyResult<String> {
    Ok(kernel_in_use()?.to_string())
}

/// Count the memory kept for the next hash, KiB.
#[pyfunction]
fn held_kib() -> u64 {
    crate::held_kib()
}

/// Wipe the memory kept for the next hash and return it to the system now.
#[pyfunction]
fn release(py: Python<'_>) {
    py.detach(crate::release);
}

fn kernel_in_use() -> PyResult<KernelName> {
    crate::kernel().map_err(PyValueError::new_err)
}

fn number(name: &str, value: &Bound<'_, PyInt>) -> PyResult<u64> {
    value
        .extract()
        .map_err(|_| PyValueError::new_err(format!("{name} is out of range")))
}

fn thread_count(threads: &Bound<'_, PyInt>) -> PyResult<usize> {
    match number("threads", threads)? {
        0 => Err(PyValueError::new_err("there is at least 1 thread, not 0")),
        threads => Ok(usize::try_from(threads).unwrap_or(usize::MAX)),
    }
}

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Cancelled", module.py().get_type::<Cancelled>())?;
    module.add_class::<PyJob>()?;
    module.add_function(wrap_pyfunction!(self::argon2, module)?)?;
    module.add_function(wrap_pyfunction!(search, module)?)?;
    module.add_function(wrap_pyfunction!(search_holds, module)?)?;
    module.add_function(wrap_pyfunction!(kernel, module)?)?;
    module.add_function(wrap_pyfunction!(held_kib, module)?)?;
    module.add_function(wrap_pyfunction!(release, module)?)
}
