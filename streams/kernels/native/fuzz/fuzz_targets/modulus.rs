//! Every back-end's numbers against those of num-bigint, whatever root, digits and shapes are.

#![no_main]

use arbitrary::Arbitrary;
use isthmus_native::Refused;
use isthmus_native::modular::{Modulus, backends};
use libfuzzer_sys::fuzz_target;
use num_bigint::BigUint;

/// Bytes of a root; and how many values there are, so that a run takes milliseconds.
const WIDEST: usize = 40;
const MOST: usize = 40;

#[derive(Arbitrary, Debug)]
struct Input {
    root: Vec<u8>,
    values: Vec<Vec<u8>>,
    /// Values are taken as they are, not modulo the modulus.
    is_raw: bool,
    /// The last byte is missing.
    is_cut: bool,
    shape: Shape,
    threads: u8,
    operation: Operation,
}

/// How digits and bins come out of the input.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// As many as are due, within their bounds.
    Fit,
    /// As many as are due, some beyond their bounds by one.
    Loose,
    /// As they are.
    Ragged,
}

impl Shape {
    /// A number made to lie in least .. most.
    fn bound(self, number: i64, least: i64, most: i64) -> i64 {
        match self {
            Shape::Fit => least + (number - least).rem_euclid(most - least + 1),
            Shape::Loose => least - 1 + (number - least + 1).rem_euclid(most - least + 3),
            Shape::Ragged => number,
        }
    }

    /// So many digits, the given ones over and over.
    fn repeat<T: Copy>(self, digits: &[T], count: usize) -> Vec<T> {
        match self {
            Shape::Ragged => digits.to_vec(),
            _ => digits.iter().copied().cycle().take(count).collect(),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Multiply {
        others: Vec<Vec<u8>>,
    },
    Power {
        exponent: [u8; 7],
        length: u8,
    },
    Invert,
    Powers {
        window: u8,
        rows: u8,
        second: bool,
        digits: Vec<i8>,
    },
    Subsets {
        window: u8,
        digits: Vec<i8>,
    },
    Combine {
        run: u8,
        gaps: Vec<u8>,
        digits: Vec<i8>,
        last: u8,
    },
    Slotted {
        features: u8,
        largest: u8,
        is_signed: bool,
        order: Vec<(u8, u8)>,
        digits: Vec<i8>,
        last: u8,
    },
    Histogram {
        features: u8,
        count: u8,
        bins: Vec<i8>,
    },
}

/// What came, and what should have; none where the arguments should be refused.
type Outcome = (Result<Vec<u8>, Refused>, Option<Vec<BigUint>>);

struct Numbers {
    modulus: BigUint,
    width: usize,
}

impl Numbers {
    fn join(&self, values: &[BigUint]) -> Vec<u8> {
        let padded = |value: &BigUint| {
            let bytes = value.to_bytes_be();
            [vec![0; self.width.saturating_sub(bytes.len())], bytes].concat()
        };
        values.iter().flat_map(padded).collect()
    }

    fn split(&self, joined: &[u8]) -> Vec<BigUint> {
        joined
            .chunks(self.width)
            .map(BigUint::from_bytes_be)
            .collect()
    }

    fn times(&self, a: &BigUint, b: &BigUint) -> BigUint {
        a * b % &self.modulus
    }

    fn product(&self, factors: impl Iterator<Item = BigUint>) -> BigUint {
        factors.fold(BigUint::from(1u8), |product, factor| {
            self.times(&product, &factor)
        })
    }

    /// A value to a digit's power, which may be negative.
    fn power(&self, value: &BigUint, digit: i64) -> BigUint {
        let base = if digit < 0 {
            value
                .modinv(&self.modulus)
                .expect("only units meet negative digits")
        } else {
            value.clone()
        };
        base.modpow(&BigUint::from(digit.unsigned_abs()), &self.modulus)
    }

    fn shifted(&self, value: &BigUint, squarings: u64) -> BigUint {
        value.modpow(&(BigUint::from(1u8) << squarings), &self.modulus)
    }

    fn invert(&self, joined: &[u8]) -> Result<Vec<u8>, Refused> {
        let inverted = self
            .split(joined)
            .iter()
            .map(|value| value.modinv(&self.modulus))
            .collect::<Option<Vec<_>>>();
        inverted
            .map(|values| self.join(&values))
            .ok_or(Refused("no unit".into()))
    }

    fn are_units(&self, values: &[BigUint]) -> bool {
        values
            .iter()
            .all(|value| value.modinv(&self.modulus).is_some())
    }
}

fn are_within(digits: &[i16], least: i64, most: i64) -> bool {
    digits
        .iter()
        .all(|&digit| (least..=most).contains(&i64::from(digit)))
}

/// One modulus on one back-end, and the values that everything is computed of.
struct Case<'a> {
    modulus: &'a Modulus,
    numbers: &'a Numbers,
    values: &'a [BigUint],
    joined: Vec<u8>,
    are_fine: bool,
    shape: Shape,
    threads: usize,
}

impl Case<'_> {
    fn run(&self, operation: &Operation) -> Option<Outcome> {
        match operation {
            Operation::Multiply { others } => Some(self.multiply(others)),
            Operation::Power { exponent, length } => {
                Some(self.power(&exponent[..usize::from(*length).min(exponent.len())]))
            }
            Operation::Invert => Some(self.invert()),
            Operation::Powers {
                window,
                rows,
                second,
                digits,
            } => self.powers(
                usize::from(*window % 9),
                usize::from(*rows % 5),
                *second,
                digits,
            ),
            Operation::Subsets { window, digits } => self.subsets(usize::from(*window % 7), digits),
            Operation::Combine {
                run,
                gaps,
                digits,
                last,
            } => {
                let gaps: Vec<u32> = gaps.iter().take(6).map(|gap| u32::from(gap % 9)).collect();
                Some(self.combine(usize::from(*run % 12), &gaps, digits, usize::from(last % 9)))
            }
            Operation::Slotted {
                features,
                largest,
                is_signed,
                order,
                digits,
                last,
            } => {
                let places = order
                    .iter()
                    .take(4)
                    .map(|&(place, gap)| (place % 5, gap % 9));
                let order: Vec<(usize, usize)> =
                    places.map(|(a, b)| (a.into(), b.into())).collect();
                let (features, largest) = (usize::from(*features % 4), usize::from(*largest % 20));
                Some(self.slotted(
                    features,
                    largest,
                    *is_signed,
                    &order,
                    digits,
                    usize::from(last % 9),
                ))
            }
            Operation::Histogram {
                features,
                count,
                bins,
            } => Some(self.histogram(usize::from(*features % 5), usize::from(*count % 12), bins)),
        }
    }

    /// The digits in their shape; `due` of them, from `least` to `most`.
    fn digits(&self, given: &[i8], least: i64, most: i64, due: usize) -> Vec<i16> {
        let bound = |&digit: &i8| self.shape.bound(digit.into(), least, most) as i16;
        self.shape
            .repeat(&given.iter().map(bound).collect::<Vec<i16>>(), due)
    }

    fn invert_eight(&self) -> impl FnOnce(&[u8]) -> Result<Vec<u8>, Refused> {
        |ends| self.numbers.invert(ends)
    }

    fn multiply(&self, others: &[Vec<u8>]) -> Outcome {
        let reduced = |one: &Vec<u8>| BigUint::from_bytes_be(one) % &self.numbers.modulus;
        let others: Vec<BigUint> = others.iter().take(MOST).map(reduced).collect();
        let fits = others.len() == 1 || others.len() == self.values.len();
        let expected = (fits && self.are_fine).then(|| {
            let each = self.values.iter().enumerate();
            each.map(|(k, a)| self.numbers.times(a, &others[k % others.len()]))
                .collect()
        });
        (
            self.modulus
                .multiply(&self.joined, &self.numbers.join(&others), self.threads),
            expected,
        )
    }

    fn power(&self, exponent: &[u8]) -> Outcome {
        let number = BigUint::from_bytes_be(exponent);
        let expected = self.are_fine.then(|| {
            self.values
                .iter()
                .map(|value| value.modpow(&number, &self.numbers.modulus))
                .collect()
        });
        (
            self.modulus.power(&self.joined, exponent, self.threads),
            expected,
        )
    }

    fn invert(&self) -> Outcome {
        let expected = (self.are_fine && self.numbers.are_units(self.values)).then(|| {
            self.values
                .iter()
                .map(|value| self.numbers.power(value, -1))
                .collect()
        });
        (
            self.modulus.invert(&self.joined, self.invert_eight()),
            expected,
        )
    }

    fn powers(&self, window: usize, rows: usize, second: bool, digits: &[i8]) -> Option<Outcome> {
        let (numbers, modulus) = (self.numbers, self.modulus);
        let bases = &self.values[..self.values.len().min(if second { 2 } else { 1 })];
        let mut tables = Vec::new();
        for base in bases {
            let table =
                modulus.build_table(&numbers.join(std::slice::from_ref(base)), window, rows);
            assert_eq!(
                table.is_ok(),
                *base < numbers.modulus && window >= 2 && rows > 0
            );
            tables.push(table.ok()?);
        }
        let positions = rows * bases.len();
        let most = if bases.is_empty() {
            0
        } else {
            1 << (window - 1)
        };
        let digits = self.digits(digits, -most, most, 3 * positions);
        let fits = positions > 0
            && digits.len().is_multiple_of(positions)
            && are_within(&digits, -most, most);
        let is_invertible = numbers.are_units(bases) || digits.iter().all(|&digit| digit >= 0);
        let expected = (fits && is_invertible).then(|| {
            let result = |picks: &[i16]| {
                numbers.product(picks.iter().enumerate().map(|(place, &digit)| {
                    let shift = (window * (place % rows)) as u64;
                    numbers.power(&numbers.shifted(&bases[place / rows], shift), digit.into())
                }))
            };
            digits.chunks(positions).map(result).collect()
        });
        let tables: Vec<_> = tables.iter().collect();
        Some((
            modulus.powers(&tables, &digits, self.invert_eight(), self.threads),
            expected,
        ))
    }

    fn subsets(&self, window: usize, digits: &[i8]) -> Option<Outcome> {
        let table = self.modulus.build_subset_table(&self.joined, window);
        assert_eq!(
            table.is_ok(),
            self.are_fine && !self.values.is_empty() && window > 0
        );
        let table = table.ok()?;
        let rows = table.rows();
        let most = (1 << window) - 1;
        let digits = self.digits(digits, 0, most, 3 * rows);
        let fits = digits.len().is_multiple_of(rows) && are_within(&digits, 0, most);
        // The last run may be short; its table's other entries are never set, and no caller picks them.
        let last = self.values.len() - (rows - 1) * window;
        if fits
            && digits
                .chunks(rows)
                .any(|picks| picks[rows - 1] >> last != 0)
        {
            return None;
        }
        let expected = fits.then(|| {
            let result = |picks: &[i16]| {
                self.numbers
                    .product(self.values.iter().enumerate().map(|(k, base)| {
                        self.numbers
                            .power(base, (picks[k / window] >> (k % window) & 1).into())
                    }))
            };
            digits.chunks(rows).map(result).collect()
        });
        Some((
            self.modulus.subset_products(&table, &digits, self.threads),
            expected,
        ))
    }

    fn combine(&self, run: usize, gaps: &[u32], digits: &[i8], last: usize) -> Outcome {
        let (numbers, values) = (self.numbers, self.values);
        let digits = self.digits(digits, -8, 8, gaps.len() * values.len());
        let fits =
            run > 0 && digits.len() == gaps.len() * values.len() && are_within(&digits, -8, 8);
        let expected = (fits && self.are_fine && numbers.are_units(values)).then(|| {
            let result = |(group, part): (usize, &[BigUint])| {
                let add = |total: BigUint, (place, &gap): (usize, &u32)| {
                    let first = place * values.len() + group * run;
                    let factors = part
                        .iter()
                        .zip(&digits[first..])
                        .map(|(value, &digit)| numbers.power(value, digit.into()));
                    numbers.times(
                        &numbers.shifted(&total, gap.into()),
                        &numbers.product(factors),
                    )
                };
                let total = gaps.iter().enumerate().fold(BigUint::from(1u8), add);
                numbers.shifted(&total, last as u64)
            };
            values.chunks(run).enumerate().map(result).collect()
        });
        let came = self.modulus.combine(
            &self.joined,
            self.invert_eight(),
            run,
            gaps,
            &digits,
            last,
            self.threads,
        );
        (came, expected)
    }

    fn slotted(
        &self,
        features: usize,
        largest: usize,
        is_signed: bool,
        order: &[(usize, usize)],
        digits: &[i8],
        last: usize,
    ) -> Outcome {
        let (numbers, values) = (self.numbers, self.values);
        let (places, items, most) = (order.len(), features * order.len(), largest as i64);
        let least = if is_signed { -most } else { 0 };
        let digits = self.digits(digits, least, most, items * values.len());
        let fits = features > 0
            && digits.len() == items * values.len()
            && are_within(&digits, least, most)
            && order.iter().all(|&(place, _)| place < places);
        let is_invertible = !is_signed || numbers.are_units(values);
        let expected = (fits && self.are_fine && is_invertible).then(|| {
            let result = |feature: usize| {
                let add = |total: BigUint, &(place, gap): &(usize, usize)| {
                    let at = |row: usize| digits[row * items + feature * places + place];
                    let factors = values.iter().enumerate();
                    let factors = factors.map(|(row, value)| numbers.power(value, at(row).into()));
                    numbers.times(
                        &numbers.shifted(&total, gap as u64),
                        &numbers.product(factors),
                    )
                };
                let total = order.iter().fold(BigUint::from(1u8), add);
                numbers.shifted(&total, last as u64)
            };
            (0..features).map(result).collect()
        });
        let came = self.modulus.slotted(
            &self.joined,
            is_signed.then(|| self.invert_eight()),
            features,
            &digits,
            largest,
            order,
            last,
            self.threads,
        );
        (came, expected)
    }

    fn histogram(&self, features: usize, count: usize, bins: &[i8]) -> Outcome {
        let values = self.values;
        let bins = self.digits(bins, 0, count.max(1) as i64 - 1, features * values.len());
        let bins: Vec<i32> = bins.into_iter().map(i32::from).collect();
        let fits = features > 0
            && bins.len() == features * values.len()
            && count > 0
            && bins.iter().all(|&bin| (0..count as i32).contains(&bin));
        let expected = (fits && self.are_fine).then(|| {
            let result = |(feature, bin): (usize, i32)| {
                let rows = values.iter().enumerate();
                let chosen = rows.filter(|(row, _)| bins[row * features + feature] == bin);
                self.numbers.product(chosen.map(|(_, value)| value.clone()))
            };
            let cells = (0..features).flat_map(|one| (0..count as i32).map(move |bin| (one, bin)));
            cells.map(result).collect()
        });
        (
            self.modulus
                .histogram(&self.joined, &bins, features, count, self.threads),
            expected,
        )
    }
}

fuzz_target!(|input: Input| {
    let bytes = &input.root[..input.root.len().min(WIDEST)];
    let root = BigUint::from_bytes_be(bytes);
    let is_root = root.bits() > 32 && root.bit(0);
    let modulus = &root * &root;
    let width = modulus.bits().div_ceil(8) as usize;
    let numbers = Numbers { modulus, width };
    for backend in backends() {
        let modulus = Modulus::new(bytes, Some(backend));
        assert_eq!(modulus.is_ok(), is_root);
        let Ok(modulus) = modulus else { return };
        assert_eq!(modulus.width(), width);
        let take = |value: &Vec<u8>| {
            if input.is_raw {
                BigUint::from_bytes_be(&value[..value.len().min(width)])
            } else {
                BigUint::from_bytes_be(&value[..value.len().min(2 * WIDEST)]) % &numbers.modulus
            }
        };
        let values: Vec<BigUint> = input.values.iter().take(MOST).map(take).collect();
        let mut joined = numbers.join(&values);
        if input.is_cut {
            joined.pop();
        }
        let is_whole = joined.len() == width * values.len();
        let case = Case {
            modulus: &modulus,
            numbers: &numbers,
            values: &values,
            are_fine: is_whole && values.iter().all(|value| *value < numbers.modulus),
            joined,
            shape: input.shape,
            threads: usize::from(input.threads % 5),
        };
        match case.run(&input.operation) {
            None => {}
            Some((came, Some(due))) => assert_eq!(came.map(|all| numbers.split(&all)), Ok(due)),
            Some((came, None)) => assert!(came.is_err(), "{backend}: {:?}", input.operation),
        }
    }
});
