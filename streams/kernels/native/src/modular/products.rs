//! Products of powers of many numbers, as `streams/kernels/multiexp.py` and `histogram.py` compute them.

use super::chains::{Numbers, fill};
use super::montgomery::{LANES, Montgomery, Word, ZERO};

/// Largest digit of `combined`, in absolute value.
const HALF: usize = 8;

/// Products of runs of `run` values, each to its own exponent (Straus 1964). Digits are given by place, the highest
/// first: (squarings before it, digits of all values); at the end come `last` squarings. A negative digit takes the
/// value's inverse.
pub struct Combination<'a> {
    pub values: Numbers<'a>,
    pub inverses: Numbers<'a>,
    pub run: usize,
    pub gaps: &'a [u32],
    /// (places, values)
    pub digits: &'a [i16],
    pub last: usize,
}

pub fn combine(out: &mut [u8], work: &Combination, modulus: &Montgomery, threads: usize) {
    let count = work.values.count();
    fill(out, modulus, threads, |first| {
        let mut scratch = modulus.block();
        // Powers 1 .. 8 of the value, then of its inverse: the k-th row of each lane's run. Entry 0 is one.
        let tables: Vec<Vec<Word>> = (0..work.run)
            .map(|k| {
                let index = |lane: usize| (first + lane) * work.run + k;
                let mut table = modulus.ones();
                for source in [work.values, work.inverses] {
                    let get = |lane| (index(lane) < count && k < work.run).then(|| source.get(index(lane))).flatten();
                    let base = modulus.load(&std::array::from_fn(get));
                    let mut power = base.clone();
                    for step in 0..HALF {
                        table.extend_from_slice(&power);
                        if step + 1 < HALF {
                            modulus.multiply_into(&mut power, &base, &mut scratch);
                        }
                    }
                }
                table
            })
            .collect();
        let (mut total, mut block) = (modulus.ones(), modulus.block());
        for (place, &gap) in work.gaps.iter().enumerate() {
            modulus.square_into(&mut total, gap as usize, &mut scratch);
            let digits = &work.digits[place * count..(place + 1) * count];
            for (k, table) in tables.iter().enumerate() {
                let entries: [usize; LANES] = std::array::from_fn(|lane| {
                    let digit = digits.get((first + lane) * work.run + k).copied().unwrap_or(0);
                    if digit < 0 { HALF + digit.unsigned_abs() as usize } else { digit as usize }
                });
                if entries.iter().any(|&entry| entry > 0) {
                    select(&mut block, table, &entries);
                    modulus.multiply_into(&mut total, &block, &mut scratch);
                }
            }
        }
        modulus.square_into(&mut total, work.last, &mut scratch);
        total
    });
}

/// One entry for each lane of a table in which entries follow each other.
fn select(block: &mut [Word], table: &[Word], entries: &[usize; LANES]) {
    let limbs = block.len();
    for (place, word) in block.iter_mut().enumerate() {
        *word = Word(std::array::from_fn(|lane| table[entries[lane] * limbs + place].0[lane]));
    }
}

/// For each item, which stands for a feature, slot and position, the product of value_i ^ digits[i, item] (Pippenger 1980):
/// values of equal |digit| meet in a bucket, buckets are joined by running products.
pub struct Buckets<'a> {
    pub values: &'a [Vec<u64>],
    /// Empty where no digit is negative.
    pub inverses: &'a [Vec<u64>],
    /// (values, items)
    pub digits: &'a [i16],
    pub items: usize,
    /// Largest |digit|.
    pub largest: usize,
}

impl Buckets<'_> {
    /// The products of eight items, in Montgomery's form.
    pub fn products(&self, first: usize, modulus: &Montgomery) -> Vec<Word> {
        let limbs = modulus.limbs;
        let mut buckets: Vec<Word> = modulus.ones().repeat(self.largest + 1);
        let (mut scratch, mut block, mut factor) = (modulus.block(), modulus.block(), vec![ZERO; limbs]);
        for row in 0..self.values.len() {
            let digits: [i16; LANES] = std::array::from_fn(|lane| {
                if first + lane < self.items { self.digits[row * self.items + first + lane] } else { 0 }
            });
            if digits == [0; LANES] {
                continue;
            }
            let entries = digits.map(|digit| digit.unsigned_abs() as usize);
            select(&mut block, &buckets, &entries);
            let sources: [&[u64]; LANES] = std::array::from_fn(|lane| {
                if digits[lane] < 0 { &self.inverses[row][..] } else { &self.values[row][..] }
            });
            for (place, word) in factor.iter_mut().enumerate() {
                *word = Word(std::array::from_fn(|lane| sources[lane][place]));
            }
            modulus.multiply_into(&mut block, &factor, &mut scratch);
            for lane in 0..LANES {
                if entries[lane] > 0 {
                    let start = entries[lane] * limbs;
                    for (word, source) in buckets[start..start + limbs].iter_mut().zip(&block) {
                        word.0[lane] = source.0[lane];
                    }
                }
            }
        }
        let (mut running, mut total) = (modulus.ones(), modulus.ones());
        for entry in (1..=self.largest).rev() {
            modulus.multiply_into(&mut running, &buckets[entry * limbs..(entry + 1) * limbs], &mut scratch);
            modulus.multiply_into(&mut total, &running, &mut scratch);
        }
        total
    }
}

/// Each number in Montgomery's form, for itself: what lanes are made of.
pub fn separate(values: Numbers, modulus: &Montgomery) -> Vec<Vec<u64>> {
    (0..values.count())
        .step_by(LANES)
        .flat_map(|first| {
            let block = values.load(first, modulus);
            (0..LANES.min(values.count() - first))
                .map(|lane| block.iter().map(|word| word.0[lane]).collect())
                .collect::<Vec<Vec<u64>>>()
        })
        .collect()
}

/// Horner's rule over items: for each feature the product of item ^ 2^shift. `order` has (item within the feature,
/// squarings before it), the highest shift first; at the end come `last` squarings.
pub fn join_items(
    out: &mut [u8],
    items: &[Vec<u64>],
    per_feature: usize,
    order: &[(usize, usize)],
    last: usize,
    modulus: &Montgomery,
) {
    fill(out, modulus, 1, |first| {
        let (mut total, mut scratch, mut block) = (modulus.ones(), modulus.block(), modulus.block());
        for &(item, gap) in order {
            modulus.square_into(&mut total, gap, &mut scratch);
            for (place, word) in block.iter_mut().enumerate() {
                *word = Word(std::array::from_fn(|lane| {
                    // Lanes beyond the last feature repeat the first: nobody reads them.
                    items.get((first + lane) * per_feature + item).unwrap_or(&items[item])[place]
                }));
            }
            modulus.multiply_into(&mut total, &block, &mut scratch);
        }
        modulus.square_into(&mut total, last, &mut scratch);
        total
    });
}

/// Sums of rows by bin: for each feature and bin the product of the values whose row is in it. `bins` is (values, features);
/// rows are shared out to lanes, whose bins are joined at the end.
pub fn histogram(
    out: &mut [u8],
    values: &[Vec<u64>],
    bins: &[i32],
    features: usize,
    count: usize,
    modulus: &Montgomery,
    threads: usize,
) {
    let limbs = modulus.limbs;
    let share = values.len().div_ceil(LANES);
    let one = |feature: usize, part: &mut [u8]| {
        let mut sums: Vec<Word> = modulus.ones().repeat(count);
        let (mut scratch, mut block, mut factor) = (modulus.block(), modulus.block(), modulus.block());
        let unit: Vec<u64> = modulus.ones().iter().map(|word| word.0[0]).collect();
        for step in 0..share {
            let rows: [usize; LANES] = std::array::from_fn(|lane| lane * share + step);
            let entries = rows.map(|row| if row < values.len() { bins[row * features + feature] as usize } else { 0 });
            select(&mut block, &sums, &entries);
            let sources: [&[u64]; LANES] = rows.map(|row| values.get(row).unwrap_or(&unit).as_slice());
            for (place, word) in factor.iter_mut().enumerate() {
                *word = Word(std::array::from_fn(|lane| sources[lane][place]));
            }
            modulus.multiply_into(&mut block, &factor, &mut scratch);
            for lane in 0..LANES {
                let start = entries[lane] * limbs;
                for (word, source) in sums[start..start + limbs].iter_mut().zip(&block) {
                    word.0[lane] = source.0[lane];
                }
            }
        }
        // Eight partial sums of a bin become one: eight bins at a time, lane after lane.
        fill(part, modulus, 1, |first| {
            let (mut total, mut scratch, mut factor) = (modulus.ones(), modulus.block(), modulus.block());
            for turn in 0..LANES {
                for (place, word) in factor.iter_mut().enumerate() {
                    *word = Word(std::array::from_fn(|lane| {
                        sums[(first + lane).min(count - 1) * limbs + place].0[turn]
                    }));
                }
                modulus.multiply_into(&mut total, &factor, &mut scratch);
            }
            total
        });
    };
    let parts: Vec<(usize, &mut [u8])> = out.chunks_mut(count * modulus.bytes).enumerate().collect();
    let share = parts.len().div_ceil(threads.max(1));
    let mut parts = parts.into_iter();
    std::thread::scope(|scope| {
        loop {
            let mine: Vec<(usize, &mut [u8])> = parts.by_ref().take(share).collect();
            if mine.is_empty() {
                break;
            }
            let one = &one;
            scope.spawn(move || mine.into_iter().for_each(|(feature, part)| one(feature, part)));
        }
    });
}
