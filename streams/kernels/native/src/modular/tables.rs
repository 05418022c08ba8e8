//! Powers of fixed bases from tables, as `streams/kernels/fixed_base.py` computes them.

use super::chains::fill;
use super::montgomery::{LANES, Montgomery, Word, ZERO};

/// Rows of entries in Montgomery's form; entry 0 of a row is one.
pub struct Table {
    pub rows: usize,
    entries: usize,
    limbs: Vec<u64>,
}

impl Table {
    fn new(rows: usize, entries: usize, modulus: &Montgomery) -> Table {
        Table { rows, entries, limbs: vec![0; rows * entries * modulus.limbs] }
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
                    table.gather(&mut block, row, &std::array::from_fn(|lane| start + lane.min(lanes - 1)));
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
        for (limb, word) in self.limbs[start..start + modulus.limbs].iter_mut().zip(block) {
            *limb = word.0[lane];
        }
    }

    /// One entry of a row for each lane.
    fn gather(&self, block: &mut [Word], row: usize, entries: &[usize; LANES]) {
        let limbs = block.len();
        let rows: [&[u64]; LANES] = std::array::from_fn(|lane| {
            let start = (row * self.entries + entries[lane]) * limbs;
            &self.limbs[start..start + limbs]
        });
        for (place, word) in block.iter_mut().enumerate() {
            *word = Word(std::array::from_fn(|lane| rows[lane][place]));
        }
    }
}

/// Digits of many exponents, `positions` each; those beyond the last exponent are zero.
pub struct Digits<'a> {
    pub digits: &'a [i16],
    pub positions: usize,
}

impl Digits<'_> {
    fn lanes(&self, first: usize, position: usize) -> [i16; LANES] {
        std::array::from_fn(|lane| {
            let place = (first + lane) * self.positions + position;
            self.digits.get(place).copied().unwrap_or(0)
        })
    }
}

/// Numerators and then denominators of the powers with signed digits, one table for each position.
pub fn fractions(
    out: &mut [u8],
    tables: &[&Table],
    digits: &Digits,
    modulus: &Montgomery,
    threads: usize,
) {
    let half = out.len() / 2;
    let (numerators, denominators) = out.split_at_mut(half);
    for (part, sign) in [(numerators, 1), (denominators, -1)] {
        fill(part, modulus, threads, |first| side(tables, digits, first, sign, modulus));
    }
}

/// The product of the entries whose digits have this sign. Lanes whose digit has the other one are left as they are.
fn side(tables: &[&Table], digits: &Digits, first: usize, sign: i16, modulus: &Montgomery) -> Vec<Word> {
    // A product only where some lane needs it would save little: eight lanes of random signs nearly always do. So
    // lanes are filled instead: each takes its own next digit of this sign, whatever its position.
    let mut queues: [Vec<(usize, usize, usize)>; LANES] = std::array::from_fn(|_| Vec::new());
    let mut position = 0;
    for (number, table) in tables.iter().enumerate() {
        for row in 0..table.rows {
            for (lane, &digit) in digits.lanes(first, position).iter().enumerate() {
                if digit * sign > 0 {
                    queues[lane].push((number, row, (digit * sign) as usize));
                }
            }
            position += 1;
        }
    }
    let longest = queues.iter().map(Vec::len).max().unwrap_or(0);
    let (mut total, mut scratch, mut block) = (modulus.ones(), modulus.block(), modulus.block());
    for step in 0..longest {
        let picks: [(usize, usize, usize); LANES] =
            std::array::from_fn(|lane| queues[lane].get(step).copied().unwrap_or((0, 0, 0)));
        gather_any(tables, &mut block, &picks);
        modulus.multiply_into(&mut total, &block, &mut scratch);
    }
    total
}

/// An entry of any table and row for each lane.
fn gather_any(tables: &[&Table], block: &mut [Word], picks: &[(usize, usize, usize); LANES]) {
    let limbs = block.len();
    let rows: [&[u64]; LANES] = std::array::from_fn(|lane| {
        let (number, row, entry) = picks[lane];
        let start = (row * tables[number].entries + entry) * limbs;
        &tables[number].limbs[start..start + limbs]
    });
    for (place, word) in block.iter_mut().enumerate() {
        *word = Word(std::array::from_fn(|lane| rows[lane][place]));
    }
}

/// The products of the chosen subsets, digits from 0 on.
pub fn subset_products(out: &mut [u8], table: &Table, digits: &Digits, modulus: &Montgomery, threads: usize) {
    fill(out, modulus, threads, |first| {
        let (mut total, mut scratch, mut block) = (modulus.ones(), modulus.block(), modulus.block());
        for row in 0..table.rows {
            let picks = digits.lanes(first, row).map(|digit| digit as usize);
            table.gather(&mut block, row, &picks);
            modulus.multiply_into(&mut total, &block, &mut scratch);
        }
        total
    });
}
