//! Powers of fixed bases from tables, as `streams/kernels/fixed_base.py` computes them.

use std::ops::Range;

use super::chains::fill;
use super::montgomery::{LANES, Montgomery, Word, ZERO, put_lane, take_lane};

/// Rows of entries in Montgomery's form; entry 0 of a row is one.
pub struct Table {
    pub rows: usize,
    entries: usize,
    limbs: Vec<u64>,
}

impl Table {
    fn new(rows: usize, entries: usize, modulus: &Montgomery) -> Table {
        Table {
            rows,
            entries,
            limbs: vec![0; rows * entries * modulus.limbs],
        }
    }

    /// Row i has the powers 0 .. 2^(w-1) of the base to the power 2^(w i).
    pub fn of_base(base: &[u8], window: usize, rows: usize, modulus: &Montgomery) -> Table {
        let mut table = Table::new(rows, (1 << (window - 1)) + 1, modulus);
        let mut scratch = modulus.block();
        let mut step = modulus.load(&[Some(base); LANES]);
        let mut steps = vec![ZERO; modulus.limbs];
        for first in (0..rows).step_by(LANES) {
            let lanes = LANES.min(rows - first);
            for lane in 0..LANES {
                for (word, one) in steps.iter_mut().zip(&step) {
                    word.0[lane] = one.0[0];
                }
                if lane < lanes {
                    modulus.square_into(&mut step, window, &mut scratch);
                }
            }
            let mut power = modulus.ones();
            for entry in 0..table.entries {
                for lane in 0..lanes {
                    table.put(first + lane, entry, lane, &power, modulus);
                }
                modulus.multiply_into(&mut power, &steps, &mut scratch);
            }
        }
        table
    }

    /// Row i has the products of all subsets of the i-th run of `window` bases, by the subset as a bit mask.
    pub fn of_subsets(bases: &[&[u8]], window: usize, modulus: &Montgomery) -> Table {
        let mut table = Table::new(bases.len().div_ceil(window), 1 << window, modulus);
        let mut scratch = modulus.block();
        for (row, run) in bases.chunks(window).enumerate() {
            table.put(row, 0, 0, &modulus.ones(), modulus);
            for (k, base) in run.iter().enumerate() {
                let factor = modulus.load(&[Some(*base); LANES]);
                for start in (0..1usize << k).step_by(LANES) {
                    let lanes = LANES.min((1 << k) - start);
                    let mut block = modulus.block();
                    table.gather(
                        &mut block,
                        row,
                        &std::array::from_fn(|lane| start + lane.min(lanes - 1)),
                        modulus,
                    );
                    modulus.multiply_into(&mut block, &factor, &mut scratch);
                    for lane in 0..lanes {
                        table.put(row, (1 << k) + start + lane, lane, &block, modulus);
                    }
                }
            }
        }
        table
    }

    pub fn last_entry(&self) -> usize {
        self.entries - 1
    }

    fn put(&mut self, row: usize, entry: usize, lane: usize, block: &[Word], modulus: &Montgomery) {
        let start = (row * self.entries + entry) * modulus.limbs;
        take_lane(&mut self.limbs[start..start + modulus.limbs], block, lane);
    }

    fn entry(&self, row: usize, entry: usize, limbs: usize) -> &[u64] {
        let start = (row * self.entries + entry) * limbs;
        &self.limbs[start..start + limbs]
    }

    /// One entry of a row for each lane.
    fn gather(
        &self,
        block: &mut [Word],
        row: usize,
        entries: &[usize; LANES],
        modulus: &Montgomery,
    ) {
        modulus.gather(
            block,
            &entries.map(|entry| self.entry(row, entry, modulus.limbs)),
        );
    }
}

/// Digits of many exponents, `positions` each; those beyond the last exponent are zero.
pub struct Digits<'a> {
    pub digits: &'a [i16],
    pub positions: usize,
}

impl Digits<'_> {
    pub fn count(&self) -> usize {
        self.digits.len() / self.positions
    }

    fn lanes(&self, first: usize, position: usize) -> [i16; LANES] {
        std::array::from_fn(|lane| {
            let place = (first + lane) * self.positions + position;
            self.digits.get(place).copied().unwrap_or(0)
        })
    }
}

/// Blocks of the numerators of the powers with signed digits, and of their denominators; one table for each position.
pub fn fractions(
    tables: &[&Table],
    digits: &Digits,
    modulus: &Montgomery,
    threads: usize,
) -> [Vec<Vec<Word>>; 2] {
    let count = digits.count();
    let share = count.div_ceil(threads.max(1)).max(1);
    let parts = (0..count)
        .step_by(share)
        .map(|first| first..count.min(first + share));
    let results: Vec<u64> = if share >= count {
        parts
            .flat_map(|part| products(tables, digits, part, modulus))
            .collect()
    } else {
        std::thread::scope(|scope| {
            let running: Vec<_> = parts
                .map(|part| scope.spawn(|| products(tables, digits, part, modulus)))
                .collect();
            running
                .into_iter()
                .flat_map(|part| part.join().expect("a product does not panic"))
                .collect()
        })
    };
    let sides: Vec<&[u64]> = results.chunks(modulus.limbs).collect();
    [0, 1].map(|side| {
        let block = |first: usize| {
            let mut block = modulus.block();
            let row = |lane: usize| sides.get(2 * (first + lane) + side);
            modulus.gather(
                &mut block,
                &std::array::from_fn(|lane| *row(lane).unwrap_or(&modulus.unit())),
            );
            block
        };
        (0..count).step_by(LANES).map(block).collect()
    })
}

/// The entries to multiply for one side of a fraction, and how many have been.
struct Side {
    number: usize,
    entries: Vec<(usize, usize, usize)>,
    done: usize,
}

impl Side {
    /// Side 2i has the positive digits of exponent i, side 2i + 1 the negative ones.
    fn new(number: usize, tables: &[&Table], digits: &Digits) -> Side {
        let sign = if number.is_multiple_of(2) { 1 } else { -1 };
        let first = number / 2 * digits.positions;
        let own = &digits.digits[first..first + digits.positions];
        let places = tables
            .iter()
            .enumerate()
            .flat_map(|(table, one)| (0..one.rows).map(move |row| (table, row)));
        let entries = places
            .zip(own)
            .filter(|(_, digit)| **digit * sign > 0)
            .map(|((table, row), digit)| (table, row, digit.unsigned_abs().into()))
            .collect();
        Side {
            number,
            entries,
            done: 0,
        }
    }
}

/// Both sides of each exponent, in Montgomery's form, one after the other. A lane that has finished a side takes the next
/// one, so that none waits for another whose exponent has more digits of its sign.
fn products(
    tables: &[&Table],
    digits: &Digits,
    exponents: Range<usize>,
    modulus: &Montgomery,
) -> Vec<u64> {
    let limbs = modulus.limbs;
    let first = 2 * exponents.start;
    let mut out = vec![0; 2 * exponents.len() * limbs];
    let mut coming = (first..2 * exponents.end).map(|number| Side::new(number, tables, digits));
    let mut lanes: [Option<Side>; LANES] = std::array::from_fn(|_| None);
    let (mut total, mut scratch, mut block) = (modulus.ones(), modulus.block(), modulus.block());
    loop {
        for (lane, side) in lanes.iter_mut().enumerate() {
            while side
                .as_ref()
                .is_none_or(|side| side.done == side.entries.len())
            {
                if let Some(finished) = side.take() {
                    let start = (finished.number - first) * limbs;
                    take_lane(&mut out[start..start + limbs], &total, lane);
                }
                *side = coming.next();
                if side.is_none() {
                    break;
                }
                put_lane(&mut total, lane, modulus.unit());
            }
        }
        if lanes.iter().all(Option::is_none) {
            return out;
        }
        let rows = lanes.each_mut().map(|side| match side {
            None => modulus.unit(),
            Some(side) => {
                let (table, row, entry) = side.entries[side.done];
                side.done += 1;
                tables[table].entry(row, entry, limbs)
            }
        });
        modulus.gather(&mut block, &rows);
        modulus.multiply_into(&mut total, &block, &mut scratch);
    }
}

/// The products of the chosen subsets, digits from 0 on.
pub fn subset_products(
    out: &mut [u8],
    table: &Table,
    digits: &Digits,
    modulus: &Montgomery,
    threads: usize,
) {
    fill(out, modulus, threads, |first| {
        let (mut total, mut scratch, mut block) =
            (modulus.ones(), modulus.block(), modulus.block());
        for row in 0..table.rows {
            let picks = digits.lanes(first, row).map(|digit| digit as usize);
            table.gather(&mut block, row, &picks, modulus);
            modulus.multiply_into(&mut total, &block, &mut scratch);
        }
        total
    });
}
