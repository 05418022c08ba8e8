//! Arithmetic modulo the moduli of Paillier, byte for byte what gmpy2 gives. Numbers are joined, big-endian, in the width
//! of the modulus, and below it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use chains::Numbers;
use montgomery::{Backend, LANES, Montgomery};
use products::{Buckets, Combination};
use tables::{Digits, Table};

mod chains;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod montgomery;
mod products;
mod tables;
#[cfg(test)]
mod tests;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Modulus>()?;
    module.add_class::<FixedTable>()?;
    module.add_function(wrap_pyfunction!(modulus_backends, module)?)
}

/// Names of the back-ends for products that this processor can run, the one that is chosen first.
#[pyfunction]
fn modulus_backends() -> Vec<&'static str> {
    available().map(Backend::name).collect()
}

fn available() -> impl Iterator<Item = Backend> {
    [Backend::Ifma, Backend::Portable].into_iter().filter(|backend| backend.is_available())
}

fn refuse<T>(text: impl Into<String>) -> PyResult<T> {
    Err(PyValueError::new_err(text.into()))
}

/// An odd modulus.
#[pyclass(frozen)]
struct Modulus {
    inner: Montgomery,
    bytes: Vec<u8>,
}

impl Modulus {
    /// Joined numbers below the modulus.
    fn numbers<'a>(&self, bytes: &'a [u8]) -> PyResult<Numbers<'a>> {
        let width = self.inner.bytes;
        if !bytes.len().is_multiple_of(width) {
            return refuse(format!("joined numbers have {width} bytes each, {} came", bytes.len()));
        }
        match bytes.chunks(width).position(|number| number >= self.bytes.as_slice()) {
            Some(index) => refuse(format!("number {index} is not below the modulus")),
            None => Ok(Numbers { bytes, width }),
        }
    }

    fn result<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        compute: impl FnOnce(&mut [u8]) + Send,
    ) -> Bound<'py, PyBytes> {
        let mut out = vec![0; count * self.inner.bytes];
        py.detach(|| compute(&mut out));
        PyBytes::new(py, &out)
    }

    fn inverses(&self, values: Numbers, invert: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        let mut out = vec![0; values.bytes.len()];
        chains::invert(&mut out, values, &self.inner, |ends| -> PyResult<Vec<u8>> {
            let inverted: Vec<u8> = invert.call1((PyBytes::new(invert.py(), ends),))?.extract()?;
            if inverted.len() != ends.len() {
                return refuse("the inverses have another length");
            }
            self.numbers(&inverted)?;
            Ok(inverted)
        })?;
        Ok(out)
    }
}

#[pymethods]
impl Modulus {
    #[new]
    #[pyo3(signature = (modulus, backend = None))]
    fn new(modulus: &[u8], backend: Option<&str>) -> PyResult<Modulus> {
        let Some(chosen) = available().find(|one| backend.is_none_or(|name| name == one.name())) else {
            return refuse(format!("this processor has no back-end {backend:?}"));
        };
        match Montgomery::new(modulus, chosen) {
            Some(inner) if (2..=256).contains(&inner.limbs) => {
                let bytes = modulus[modulus.len() - inner.bytes..].to_vec();
                Ok(Modulus { inner, bytes })
            }
            _ => refuse("a modulus is odd and has 65 to 13,000 bits"),
        }
    }

    /// Bytes of a number.
    #[getter]
    fn width(&self) -> usize {
        self.inner.bytes
    }

    /// a_i b_i; one b serves all.
    #[pyo3(signature = (a, b, threads = 1))]
    fn multiply<'py>(&self, py: Python<'py>, a: &[u8], b: &[u8], threads: usize) -> PyResult<Bound<'py, PyBytes>> {
        let (a, b) = (self.numbers(a)?, self.numbers(b)?);
        if b.count() != 1 && b.count() != a.count() {
            return refuse(format!("{} numbers with {}", a.count(), b.count()));
        }
        Ok(self.result(py, a.count(), |out| chains::multiply(out, a, b, &self.inner, threads)))
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
        let values = self.numbers(values)?;
        Ok(self.result(py, values.count(), |out| chains::power(out, values, exponent, &self.inner, threads)))
    }

    /// Inverses of units; `invert` gives those of eight.
    fn invert<'py>(&self, py: Python<'py>, values: &[u8], invert: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inverses(self.numbers(values)?, invert)?))
    }

    /// The quotients of the powers that signed digits (count, positions) pick from the tables, one after the other.
    #[pyo3(signature = (tables, digits, invert, threads = 1))]
    fn powers<'py>(
        &self,
        py: Python<'py>,
        tables: Vec<PyRef<'py, FixedTable>>,
        digits: &[u8],
        invert: &Bound<'py, PyAny>,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let digits = words(digits);
        let parts: Vec<&Table> = tables.iter().map(|table| &table.inner).collect();
        let positions: usize = parts.iter().map(|table| table.rows).sum();
        let least = parts.iter().map(|table| table.last_entry()).min().unwrap_or(0);
        check_digits(&digits, positions, least, true)?;
        let count = digits.len() / positions;
        let mut both = vec![0; 2 * count * self.inner.bytes];
        let digits = Digits { digits: &digits, positions };
        py.detach(|| tables::fractions(&mut both, &parts, &digits, &self.inner, threads));
        let (numerators, denominators) = both.split_at(count * self.inner.bytes);
        let width = self.inner.bytes;
        let inverses = self.inverses(Numbers { bytes: denominators, width }, invert)?;
        let (a, b) = (Numbers { bytes: numerators, width }, Numbers { bytes: &inverses, width });
        Ok(self.result(py, count, |out| {
            if count == 1 {
                chains::multiply(out, a, b, &self.inner, 1)
            } else {
                chains::multiply(out, a, b, &self.inner, threads)
            }
        }))
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
        let digits = words(digits);
        let table = &table.inner;
        check_digits(&digits, table.rows, table.last_entry(), false)?;
        let count = digits.len() / table.rows;
        let digits = Digits { digits: &digits, positions: table.rows };
        Ok(self.result(py, count, |out| tables::subset_products(out, table, &digits, &self.inner, threads)))
    }

    /// See `combined_powers` in `multiexp.py`: `gaps` squarings before each place, digits (places, values) in -8 .. 8.
    #[pyo3(signature = (values, invert, run, gaps, digits, last, threads = 1))]
    #[allow(clippy::too_many_arguments)]
    fn combine<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        invert: &Bound<'py, PyAny>,
        run: usize,
        gaps: Vec<u32>,
        digits: &[u8],
        last: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (values, digits) = (self.numbers(values)?, words(digits));
        if run == 0 || digits.len() != gaps.len() * values.count() || digits.iter().any(|d| !(-8..=8).contains(d)) {
            return refuse("digits do not fit values and places");
        }
        let inverses = self.inverses(values, invert)?;
        let inverses = Numbers { bytes: &inverses, width: self.inner.bytes };
        let work = Combination { values, inverses, run, gaps: &gaps, digits: &digits, last };
        let count = values.count().div_ceil(run);
        Ok(self.result(py, count, |out| products::combine(out, &work, &self.inner, threads)))
    }

    /// See `slotted_products` in `multiexp.py`. Digits are (values, features, places), up to `largest` in absolute value;
    /// `order` has the places from the highest shift down with the squarings before each.
    #[pyo3(signature = (values, invert, features, digits, largest, order, last, threads = 1))]
    #[allow(clippy::too_many_arguments)]
    fn slotted<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        invert: Option<&Bound<'py, PyAny>>,
        features: usize,
        digits: &[u8],
        largest: usize,
        order: Vec<(usize, usize)>,
        last: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (values, digits) = (self.numbers(values)?, words(digits));
        let (places, items) = (order.len(), features * order.len());
        let least = if invert.is_some() { -(largest as i64) } else { 0 };
        let fits = |d: &i16| (least..=largest as i64).contains(&(*d as i64));
        if features == 0
            || largest > 1 << 15
            || digits.len() != values.count() * items
            || !digits.iter().all(fits)
            || order.iter().any(|&(place, _)| place >= places)
        {
            return refuse("digits do not fit values, features and places");
        }
        let inverses = match invert {
            Some(invert) => self.inverses(values, invert)?,
            None => Vec::new(),
        };
        let modulus = &self.inner;
        Ok(self.result(py, features, |out| {
            let loaded = products::separate(values, modulus);
            let inverses = products::separate(Numbers { bytes: &inverses, width: modulus.bytes }, modulus);
            let work = Buckets { values: &loaded, inverses: &inverses, digits: &digits, items, largest };
            let blocks: Vec<usize> = (0..items).step_by(LANES).collect();
            let share = blocks.len().div_ceil(threads.max(1));
            let products: Vec<Vec<u64>> = std::thread::scope(|scope| {
                let parts: Vec<_> = blocks
                    .chunks(share)
                    .map(|part| {
                        let work = &work;
                        scope.spawn(move || {
                            part.iter().flat_map(|&first| lanes_of(&work.products(first, modulus))).collect::<Vec<_>>()
                        })
                    })
                    .collect();
                parts.into_iter().flat_map(|part| part.join().expect("a product does not panic")).collect()
            });
            products::join_items(out, &products, places, &order, last, modulus);
        }))
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
        let values = self.numbers(values)?;
        let bins: Vec<i32> =
            bins.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
        if features == 0
            || count == 0
            || bins.len() != values.count() * features
            || bins.iter().any(|&bin| bin < 0 || bin as usize >= count)
        {
            return refuse("bins do not fit values and features");
        }
        let modulus = &self.inner;
        Ok(self.result(py, features * count, |out| {
            let loaded = products::separate(values, modulus);
            products::histogram(out, &loaded, &bins, features, count, modulus, threads);
        }))
    }
}

/// Little-endian numbers of two bytes.
fn words(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect()
}

fn lanes_of(block: &[montgomery::Word]) -> Vec<Vec<u64>> {
    (0..LANES).map(|lane| block.iter().map(|word| word.0[lane]).collect()).collect()
}

fn check_digits(digits: &[i16], positions: usize, largest: usize, signed: bool) -> PyResult<()> {
    let least = if signed { -(largest as i64) } else { 0 };
    let fits = |digit: &i16| (least..=largest as i64).contains(&(*digit as i64));
    if positions == 0 || !digits.len().is_multiple_of(positions) || !digits.iter().all(fits) {
        return refuse("digits do not fit the tables");
    }
    Ok(())
}

/// Entries of fixed bases.
#[pyclass(frozen)]
struct FixedTable {
    inner: Table,
}

#[pymethods]
impl FixedTable {
    /// Powers of one base: `rows` digits of `window` bits.
    #[staticmethod]
    fn of_base(py: Python<'_>, modulus: &Modulus, base: &[u8], window: usize, rows: usize) -> PyResult<FixedTable> {
        let base = modulus.numbers(base)?;
        if base.count() != 1 || !(2..=15).contains(&window) || rows == 0 {
            return refuse("a table has one base, digits of 2 to 15 bits, and rows");
        }
        let inner = py.detach(|| Table::of_base(base.bytes, window, rows, &modulus.inner));
        Ok(FixedTable { inner })
    }

    /// Products of all subsets of runs of bases.
    #[staticmethod]
    fn of_subsets(py: Python<'_>, modulus: &Modulus, bases: &[u8], window: usize) -> PyResult<FixedTable> {
        let bases = modulus.numbers(bases)?;
        if bases.count() == 0 || !(1..=14).contains(&window) {
            return refuse("a table has bases, and runs of 1 to 14 of them");
        }
        let each: Vec<&[u8]> = bases.bytes.chunks(bases.width).collect();
        let inner = py.detach(|| Table::of_subsets(&each, window, &modulus.inner));
        Ok(FixedTable { inner })
    }

    fn __len__(&self) -> usize {
        self.inner.rows
    }
}
