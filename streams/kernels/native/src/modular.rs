//! Arithmetic modulo the square of a number, as all of Paillier's is, byte for byte what gmpy2 gives. Numbers are joined,
//! big-endian, in the width of the modulus, and below it.

// Limbs and lanes go by their numbers, as in the formulas.
#![allow(clippy::needless_range_loop)]

use crate::{Refused, refuse};
use chains::Numbers;
use montgomery::{Backend, Montgomery};
use products::{Buckets, Combination};
use tables::{Digits, Table};

#[cfg(target_arch = "x86_64")]
mod avx2;
mod chains;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod montgomery;
mod portable;
mod products;
mod tables;
#[cfg(test)]
mod tests;

/// Largest |digit| of a combination.
const COMBINED_DIGIT: i64 = 8;

/// Names of the back-ends for products that this processor can run, the one that is chosen first.
pub fn backends() -> Vec<&'static str> {
    available().map(Backend::name).collect()
}

fn available() -> impl Iterator<Item = Backend> {
    [Backend::Ifma, Backend::Avx2, Backend::Portable]
        .into_iter()
        .filter(|backend| backend.is_available())
}

/// Most limbs of a root: sums of six half products a limb stay in a word.
const MOST_LIMBS: usize = 128;

/// The square of an odd number.
pub struct Modulus {
    inner: Montgomery,
}

impl Modulus {
    /// The square of a root of 33 to 6,600 bits, on the named back-end or the fastest.
    pub fn new(root: &[u8], backend: Option<&str>) -> Result<Modulus, Refused> {
        let Some(chosen) = available().find(|one| backend.is_none_or(|name| name == one.name()))
        else {
            return refuse(format!("this processor has no back-end {backend:?}"));
        };
        match Montgomery::new(root, chosen) {
            Some(inner) if inner.limbs <= 2 * MOST_LIMBS => Ok(Modulus { inner }),
            _ => refuse("a root is odd and has 33 to 6,600 bits"),
        }
    }

    /// Bytes of a number.
    pub fn width(&self) -> usize {
        self.inner.bytes
    }

    /// Joined numbers below the modulus.
    fn numbers<'a>(&self, bytes: &'a [u8]) -> Result<Numbers<'a>, Refused> {
        let width = self.width();
        if !bytes.len().is_multiple_of(width) {
            let came = bytes.len();
            return refuse(format!(
                "joined numbers have {width} bytes each, {came} came"
            ));
        }
        let is_above = |number: &[u8]| number >= self.inner.modulus.as_slice();
        match bytes.chunks(width).position(is_above) {
            Some(index) => refuse(format!("number {index} is not below the modulus")),
            None => Ok(Numbers { bytes, width }),
        }
    }

    /// Room for so many results, filled.
    fn results(&self, count: usize, compute: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut out = vec![0; count * self.width()];
        compute(&mut out);
        out
    }

    /// a_i b_i; one b serves all.
    pub fn multiply(&self, a: &[u8], b: &[u8], threads: usize) -> Result<Vec<u8>, Refused> {
        let (a, b) = (self.numbers(a)?, self.numbers(b)?);
        if b.count() != 1 && b.count() != a.count() {
            return refuse(format!("{} numbers with {}", a.count(), b.count()));
        }
        Ok(self.results(a.count(), |out| {
            chains::multiply(out, a, b, &self.inner, threads)
        }))
    }

    /// value_i ^ exponent, for one exponent from 0 on, big-endian.
    pub fn power(
        &self,
        values: &[u8],
        exponent: &[u8],
        threads: usize,
    ) -> Result<Vec<u8>, Refused> {
        let values = self.numbers(values)?;
        Ok(self.results(values.count(), |out| {
            chains::power(out, values, exponent, &self.inner, threads)
        }))
    }

    /// Inverses of units; `invert` gives those of eight joined numbers.
    pub fn invert<E: From<Refused>>(
        &self,
        values: &[u8],
        invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        self.inverses(self.numbers(values)?, invert)
    }

    fn inverses<E: From<Refused>>(
        &self,
        values: Numbers,
        invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let mut out = vec![0; values.bytes.len()];
        chains::invert(&mut out, values, &self.inner, self.checked(invert))?;
        Ok(out)
    }

    /// `invert`, whose answer must be as many numbers as it was told.
    fn checked<E: From<Refused>>(
        &self,
        invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> impl FnOnce(&[u8]) -> Result<Vec<u8>, E> {
        |ends| {
            let inverted = invert(ends)?;
            if inverted.len() != ends.len() {
                return refuse("the inverses have another length");
            }
            self.numbers(&inverted)?;
            Ok(inverted)
        }
    }

    /// Powers of one base: `rows` digits of `window` bits.
    pub fn build_table(
        &self,
        base: &[u8],
        window: usize,
        rows: usize,
    ) -> Result<FixedTable, Refused> {
        let base = self.numbers(base)?;
        if base.count() != 1 || !(2..=15).contains(&window) || rows == 0 {
            return refuse("a table has one base, digits of 2 to 15 bits, and rows");
        }
        let inner = Table::of_base(base.bytes, window, rows, &self.inner);
        Ok(self.table(inner))
    }

    /// Products of all subsets of runs of bases.
    pub fn build_subset_table(&self, bases: &[u8], window: usize) -> Result<FixedTable, Refused> {
        let bases = self.numbers(bases)?;
        if bases.count() == 0 || !(1..=14).contains(&window) {
            return refuse("a table has bases, and runs of 1 to 14 of them");
        }
        let each: Vec<&[u8]> = bases.bytes.chunks(bases.width).collect();
        Ok(self.table(Table::of_subsets(&each, window, &self.inner)))
    }

    fn table(&self, inner: Table) -> FixedTable {
        FixedTable {
            inner,
            modulus: self.inner.modulus.clone(),
        }
    }

    /// The tables' entries, if they are this modulus's.
    fn own<'a>(&self, tables: &[&'a FixedTable]) -> Result<Vec<&'a Table>, Refused> {
        if tables
            .iter()
            .any(|table| table.modulus != self.inner.modulus)
        {
            return refuse("a table is another modulus's");
        }
        Ok(tables.iter().map(|table| &table.inner).collect())
    }

    /// The quotients of the powers that signed digits (count, positions) pick from the tables, one after the other.
    pub fn powers<E: From<Refused>>(
        &self,
        tables: &[&FixedTable],
        digits: &[i16],
        invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
        threads: usize,
    ) -> Result<Vec<u8>, E> {
        let tables = self.own(tables)?;
        let positions: usize = tables.iter().map(|table| table.rows).sum();
        let least = tables.iter().map(|table| table.last_entry()).min();
        let digits = picks(digits, positions, least.unwrap_or(0), true)?;
        let modulus = &self.inner;
        let [numerators, denominators] = tables::fractions(&tables, &digits, modulus, threads);
        let inverses = chains::invert_blocks(&denominators, modulus, self.checked(invert))?;
        Ok(self.results(digits.count(), |out| {
            chains::multiply_blocks(out, &numerators, &inverses, modulus, threads)
        }))
    }

    /// The products of the subsets that digits (count, rows) pick.
    pub fn subset_products(
        &self,
        table: &FixedTable,
        digits: &[i16],
        threads: usize,
    ) -> Result<Vec<u8>, Refused> {
        let table = self.own(&[table])?[0];
        let digits = picks(digits, table.rows, table.last_entry(), false)?;
        Ok(self.results(digits.count(), |out| {
            tables::subset_products(out, table, &digits, &self.inner, threads)
        }))
    }

    /// See `combined_powers` in `multiexp.py`: `gaps` squarings before each place, digits (places, values) in -8 .. 8.
    #[allow(clippy::too_many_arguments)]
    pub fn combine<E: From<Refused>>(
        &self,
        values: &[u8],
        invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
        run: usize,
        gaps: &[u32],
        digits: &[i16],
        last: usize,
        threads: usize,
    ) -> Result<Vec<u8>, E> {
        let values = self.numbers(values)?;
        if run == 0
            || digits.len() != gaps.len() * values.count()
            || !are_within(digits, -COMBINED_DIGIT, COMBINED_DIGIT)
        {
            return refuse("digits do not fit values and places");
        }
        let inverses = self.inverses(values, invert)?;
        let work = Combination {
            values,
            inverses: Numbers {
                bytes: &inverses,
                width: self.width(),
            },
            run,
            gaps,
            digits,
            last,
        };
        Ok(self.results(values.count().div_ceil(run), |out| {
            products::combine(out, &work, &self.inner, threads)
        }))
    }

    /// See `slotted_products` in `multiexp.py`. Digits are (values, features, places), up to `largest` in absolute value,
    /// from 0 on where nothing inverts; `order` has the places from the highest shift down with the squarings before each.
    #[allow(clippy::too_many_arguments)]
    pub fn slotted<E: From<Refused>>(
        &self,
        values: &[u8],
        invert: Option<impl FnOnce(&[u8]) -> Result<Vec<u8>, E>>,
        features: usize,
        digits: &[i16],
        largest: usize,
        order: &[(usize, usize)],
        last: usize,
        threads: usize,
    ) -> Result<Vec<u8>, E> {
        let values = self.numbers(values)?;
        let (places, items) = (order.len(), features * order.len());
        let most = largest as i64;
        let least = if invert.is_some() { -most } else { 0 };
        if features == 0
            || largest > 1 << 15
            || digits.len() != values.count() * items
            || !are_within(digits, least, most)
            || order.iter().any(|&(place, _)| place >= places)
        {
            return refuse("digits do not fit values, features and places");
        }
        let inverses = match invert {
            Some(invert) => self.inverses(values, invert)?,
            None => Vec::new(),
        };
        let inverses = Numbers {
            bytes: &inverses,
            width: self.width(),
        };
        let modulus = &self.inner;
        let work = Buckets {
            values: &products::separate(values, modulus),
            inverses: &products::separate(inverses, modulus),
            digits,
            items,
            largest,
        };
        Ok(self.results(features, |out| {
            let products = work.all_products(modulus, threads);
            products::join_items(out, &products, places, order, last, modulus);
        }))
    }

    /// For each feature and bin the product of the values in it; `bins` (values, features), from 0 on.
    pub fn histogram(
        &self,
        values: &[u8],
        bins: &[i32],
        features: usize,
        count: usize,
        threads: usize,
    ) -> Result<Vec<u8>, Refused> {
        let values = self.numbers(values)?;
        if features == 0
            || count == 0
            || bins.len() != values.count() * features
            || bins.iter().any(|&bin| bin < 0 || bin as usize >= count)
        {
            return refuse("bins do not fit values and features");
        }
        let loaded = products::separate(values, &self.inner);
        Ok(self.results(features * count, |out| {
            products::histogram(out, &loaded, bins, features, count, &self.inner, threads);
        }))
    }
}

fn are_within(digits: &[i16], least: i64, most: i64) -> bool {
    digits
        .iter()
        .all(|&digit| (least..=most).contains(&i64::from(digit)))
}

fn picks(
    digits: &[i16],
    positions: usize,
    largest: usize,
    is_signed: bool,
) -> Result<Digits<'_>, Refused> {
    let most = largest as i64;
    let least = if is_signed { -most } else { 0 };
    if positions == 0 || !digits.len().is_multiple_of(positions) || !are_within(digits, least, most)
    {
        return refuse("digits do not fit the tables");
    }
    Ok(Digits { digits, positions })
}

/// Entries of fixed bases.
pub struct FixedTable {
    inner: Table,
    modulus: Vec<u8>,
}

impl FixedTable {
    /// Digits that pick an entry each.
    pub fn rows(&self) -> usize {
        self.inner.rows
    }
}
