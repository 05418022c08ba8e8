//! The group ristretto255 (RFC 9496) on joined buffers, byte for byte what libsodium gives.

// Limbs go by their numbers, as in the formulas.
#![allow(clippy::needless_range_loop)]

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use batch::{Backend, Work};
use digests::Texts;
use scalar::{Digits, half_digits};

#[cfg(target_arch = "x86_64")]
mod avx2;
mod batch;
mod digests;
mod elligator;
mod field;
mod group;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;
mod scalar;
#[cfg(test)]
mod tests;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(point_backends, module)?)?;
    module.add_function(wrap_pyfunction!(multiply_points, module)?)?;
    module.add_function(wrap_pyfunction!(hash_to_points, module)?)?;
    module.add_function(wrap_pyfunction!(hash_ids, module)?)?;
    module.add_function(wrap_pyfunction!(blind_ids, module)?)?;
    module.add_function(wrap_pyfunction!(tag_points, module)?)
}

/// Names of the back-ends for points that this processor can run, the one that is chosen first.
#[pyfunction]
fn point_backends() -> Vec<&'static str> {
    available().map(Backend::name).collect()
}

/// The product of each joined 32-byte point and one scalar, or the index of the first point that is refused.
#[pyfunction]
#[pyo3(signature = (points, factor, threads = 1, backend = None))]
fn multiply_points<'py>(
    py: Python<'py>,
    points: &[u8],
    factor: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    run(
        py,
        Work::Multiply(&digits_of(factor)?),
        points,
        threads,
        backend,
    )
}

/// The points that joined 64-byte strings map to.
#[pyfunction]
#[pyo3(signature = (digests, threads = 1, backend = None))]
fn hash_to_points<'py>(
    py: Python<'py>,
    digests: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    run(py, Work::Map, digests, threads, backend)
}

/// The points that SHA-512(prefix || length in 8 bytes || text) map to.
#[pyfunction]
#[pyo3(signature = (ids, prefix, threads = 1, backend = None))]
fn hash_ids<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyList>,
    prefix: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let texts = texts_of(ids)?;
    let digests = py.detach(|| batch::digest_ids(prefix, &texts, threads));
    run(py, Work::Map, &digests, threads, backend)
}

/// The same points times one scalar, or the index of one that is the identity.
#[pyfunction]
#[pyo3(signature = (ids, prefix, factor, threads = 1, backend = None))]
fn blind_ids<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyList>,
    prefix: &[u8],
    factor: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let digits = digits_of(factor)?;
    let texts = texts_of(ids)?;
    let digests = py.detach(|| batch::digest_ids(prefix, &texts, threads));
    run(
        py,
        Work::MapAndMultiply(&digits),
        &digests,
        threads,
        backend,
    )
}

/// SHA-256(prefix || point) of each joined 32-byte point.
#[pyfunction]
fn tag_points<'py>(py: Python<'py>, points: &[u8], prefix: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let count = count(points, 32)?;
    PyBytes::new_with(py, 32 * count, |out| {
        py.detach(|| digests::tag_points(prefix, points, out));
        Ok(())
    })
}

fn run<'py>(
    py: Python<'py>,
    work: Work,
    source: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let backend = choose(backend)?;
    let count = count(source, work.width())?;
    let mut refused = None;
    let points = PyBytes::new_with(py, 32 * count, |out| {
        refused = py.detach(|| batch::run(backend, work, source, out, threads));
        Ok(())
    })?;
    Ok(match refused {
        Some(index) => index.into_pyobject(py)?.into_any(),
        None => points.into_any(),
    })
}

fn digits_of(factor: &[u8]) -> PyResult<Digits> {
    let factor = factor
        .try_into()
        .map_err(|_| PyValueError::new_err("a scalar has 32 bytes"))?;
    Ok(half_digits(factor))
}

fn texts_of(ids: &Bound<'_, PyList>) -> PyResult<Texts> {
    let mut texts = Texts::default();
    for id in ids {
        texts.push(id.downcast::<PyString>()?.to_str()?);
    }
    Ok(texts)
}

fn available() -> impl Iterator<Item = Backend> {
    Backend::ALL
        .iter()
        .copied()
        .filter(|backend| backend.is_available())
}

fn choose(name: Option<&str>) -> PyResult<Backend> {
    available()
        .find(|backend| name.is_none_or(|name| name == backend.name()))
        .ok_or_else(|| {
            PyValueError::new_err(format!("no back-end for points {name:?} on this processor"))
        })
}

fn count(joined: &[u8], width: usize) -> PyResult<usize> {
    if !joined.len().is_multiple_of(width) {
        return Err(PyValueError::new_err(format!(
            "{} bytes are no multiple of {width}",
            joined.len()
        )));
    }
    Ok(joined.len() / width)
}
