//! Points of ristretto255, joined.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::curve::{self, POINT, Texts, Work};

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
    curve::backends()
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
    let work = Work::Multiply(curve::digits_of(factor)?);
    run(py, &work, points, threads, backend)
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
    run(py, &Work::Map, digests, threads, backend)
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
    run_texts(py, &Work::Map, ids, prefix, threads, backend)
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
    let work = Work::MapAndMultiply(curve::digits_of(factor)?);
    run_texts(py, &work, ids, prefix, threads, backend)
}

/// SHA-256(prefix || point) of each joined 32-byte point.
#[pyfunction]
fn tag_points<'py>(py: Python<'py>, points: &[u8], prefix: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let count = curve::count_points(points)?;
    PyBytes::new_with(py, POINT * count, |out| {
        Ok(py.detach(|| curve::tag_points(points, prefix, out))?)
    })
}

fn run_texts<'py>(
    py: Python<'py>,
    work: &Work,
    ids: &Bound<'py, PyList>,
    prefix: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut texts = Texts::default();
    for id in ids {
        texts.push(id.downcast::<PyString>()?.to_str()?);
    }
    let digests = py.detach(|| curve::digest_ids(prefix, &texts, threads));
    run(py, work, &digests, threads, backend)
}

fn run<'py>(
    py: Python<'py>,
    work: &Work,
    source: &[u8],
    threads: usize,
    backend: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let count = curve::count(work, source)?;
    let mut refused = None;
    let points = PyBytes::new_with(py, POINT * count, |out| {
        refused = py.detach(|| curve::run(work, source, out, threads, backend))?;
        Ok(())
    })?;
    Ok(match refused {
        Some(index) => index.into_pyobject(py)?.into_any(),
        None => points.into_any(),
    })
}
