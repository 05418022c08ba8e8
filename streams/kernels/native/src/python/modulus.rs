//! Numbers modulo one number, joined.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::{modular, refuse};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Modulus>()?;
    module.add_class::<FixedTable>()?;
    module.add_function(wrap_pyfunction!(modulus_backends, module)?)
}

/// Names of the back-ends for products that this processor can run, the one that is chosen first.
#[pyfunction]
fn modulus_backends() -> Vec<&'static str> {
    modular::backends()
}

/// Little-endian numbers, joined.
fn numbers<const N: usize, T>(joined: &[u8], read: fn([u8; N]) -> T) -> PyResult<Vec<T>> {
    if !joined.len().is_multiple_of(N) {
        return refuse(format!(
            "numbers of {N} bytes do not fill {} bytes",
            joined.len()
        ));
    }
    let each = |bytes: &[u8]| read(bytes.try_into().expect("a chunk of the size asked for"));
    Ok(joined.chunks_exact(N).map(each).collect())
}

fn digits_of(joined: &[u8]) -> PyResult<Vec<i16>> {
    numbers(joined, i16::from_le_bytes)
}

/// Python's function for the inverses of eight numbers, called where the interpreter is not held.
fn inverter(invert: Py<PyAny>) -> impl FnOnce(&[u8]) -> PyResult<Vec<u8>> {
    move |ends| {
        Python::attach(|py| {
            invert
                .bind(py)
                .call1((PyBytes::new(py, ends),))?
                .extract::<Vec<u8>>()
        })
    }
}

/// What `compute` gives while the interpreter is free.
fn detached<'py, E: Send>(
    py: Python<'py>,
    compute: impl FnOnce() -> Result<Vec<u8>, E> + Send,
) -> PyResult<Bound<'py, PyBytes>>
where
    PyErr: From<E>,
{
    Ok(PyBytes::new(py, &py.detach(compute)?))
}

/// The square of an odd root.
#[pyclass(frozen)]
struct Modulus {
    inner: modular::Modulus,
}

#[pymethods]
impl Modulus {
    #[new]
    #[pyo3(signature = (root, backend = None))]
    fn new(root: &[u8], backend: Option<&str>) -> PyResult<Modulus> {
        let inner = modular::Modulus::new(root, backend)?;
        Ok(Modulus { inner })
    }

    /// Bytes of a number.
    #[getter]
    fn width(&self) -> usize {
        self.inner.width()
    }

    /// a_i b_i; one b serves all.
    #[pyo3(signature = (a, b, threads = 1))]
    fn multiply<'py>(
        &self,
        py: Python<'py>,
        a: &[u8],
        b: &[u8],
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        detached(py, || self.inner.multiply(a, b, threads))
    }

    /// value_i ^ exponent, for one exponent from 0 on, big-endian.
    #[pyo3(signature = (values, exponent, threads = 1))]
    fn power<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        exponent: &[u8],
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        detached(py, || self.inner.power(values, exponent, threads))
    }

    /// Inverses of units; `invert` gives those of eight.
    fn invert<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        invert: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        detached(py, || self.inner.invert(values, inverter(invert)))
    }

    /// The quotients of the powers that signed digits (count, positions) pick from the tables, one after the other.
    #[pyo3(signature = (tables, digits, invert, threads = 1))]
    fn powers<'py>(
        &self,
        py: Python<'py>,
        tables: Vec<PyRef<'py, FixedTable>>,
        digits: &[u8],
        invert: Py<PyAny>,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let digits = digits_of(digits)?;
        let tables: Vec<&modular::FixedTable> = tables.iter().map(|table| &table.inner).collect();
        detached(py, || {
            self.inner
                .powers(&tables, &digits, inverter(invert), threads)
        })
    }

    /// The products of the subsets that digits (count, rows) pick.
    #[pyo3(signature = (table, digits, threads = 1))]
    fn subset_products<'py>(
        &self,
        py: Python<'py>,
        table: &FixedTable,
        digits: &[u8],
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let digits = digits_of(digits)?;
        detached(py, || {
            self.inner.subset_products(&table.inner, &digits, threads)
        })
    }

    /// See `combined_powers` in `multiexp.py`: `gaps` squarings before each place, digits (places, values) in -8 .. 8.
    #[pyo3(signature = (values, invert, run, gaps, digits, last, threads = 1))]
    #[allow(clippy::too_many_arguments)]
    fn combine<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        invert: Py<PyAny>,
        run: usize,
        gaps: Vec<u32>,
        digits: &[u8],
        last: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let digits = digits_of(digits)?;
        detached(py, || {
            let invert = inverter(invert);
            self.inner
                .combine(values, invert, run, &gaps, &digits, last, threads)
        })
    }

    /// See `slotted_products` in `multiexp.py`. Digits are (values, features, places), up to `largest` in absolute value;
    /// `order` has the places from the highest shift down with the squarings before each.
    #[pyo3(signature = (values, invert, features, digits, largest, order, last, threads = 1))]
    #[allow(clippy::too_many_arguments)]
    fn slotted<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        invert: Option<Py<PyAny>>,
        features: usize,
        digits: &[u8],
        largest: usize,
        order: Vec<(usize, usize)>,
        last: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let digits = digits_of(digits)?;
        detached(py, || {
            let invert = invert.map(inverter);
            self.inner.slotted(
                values, invert, features, &digits, largest, &order, last, threads,
            )
        })
    }

    /// For each feature and bin the product of the values in it; `bins` (values, features), from 0 on.
    #[pyo3(signature = (values, bins, features, count, threads = 1))]
    fn histogram<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        bins: &[u8],
        features: usize,
        count: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bins = numbers(bins, i32::from_le_bytes)?;
        detached(py, || {
            self.inner
                .histogram(values, &bins, features, count, threads)
        })
    }
}

/// Entries of fixed bases.
#[pyclass(frozen)]
struct FixedTable {
    inner: modular::FixedTable,
}

#[pymethods]
impl FixedTable {
    /// Powers of one base: `rows` digits of `window` bits.
    #[staticmethod]
    fn of_base(
        py: Python<'_>,
        modulus: &Modulus,
        base: &[u8],
        window: usize,
        rows: usize,
    ) -> PyResult<FixedTable> {
        let inner = py.detach(|| modulus.inner.build_table(base, window, rows))?;
        Ok(FixedTable { inner })
    }

    /// Products of all subsets of runs of bases.
    #[staticmethod]
    fn of_subsets(
        py: Python<'_>,
        modulus: &Modulus,
        bases: &[u8],
        window: usize,
    ) -> PyResult<FixedTable> {
        let inner = py.detach(|| modulus.inner.build_subset_table(bases, window))?;
        Ok(FixedTable { inner })
    }

    fn __len__(&self) -> usize {
        self.inner.rows()
    }
}
