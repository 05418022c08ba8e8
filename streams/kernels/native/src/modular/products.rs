//! Products of powers of many numbers, as `streams/kernels/multiexp.py` and `histogram.py` compute them.

use super::chains::{Numbers, fill};
use super::montgomery::{LANES, Montgomery, Word, take_lane};

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
        let tables: Vec<LaneTable> = (0..work.run)
            .map(|k| {
                let index = |lane: usize| (first + lane) * work.run + k;
                let mut table = LaneTable::new(2 * HALF + 1, modulus);
                for (start, source) in [(0, work.values), (HALF, work.inverses)] {
                    let get = |lane| {
                        (index(lane) < count && k < work.run)
                            .then(|| source.get(index(lane)))
                            .flatten()
                    };
                    let base = modulus.load(&std::array::from_fn(get));
                    let mut power = base.clone();
                    for step in 1..=HALF {
                        table.scatter(&power, &[start + step; LANES]);
                        if step < HALF {
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
                    let digit = digits
                        .get((first + lane) * work.run + k)
                        .copied()
                        .unwrap_or(0);
                    if digit < 0 {
                        HALF + digit.unsigned_abs() as usize
                    } else {
                        digit as usize
                    }
                });
                if entries.iter().any(|&entry| entry > 0) {
                    table.gather(&mut block, &entries);
                    modulus.multiply_into(&mut total, &block, &mut scratch);
                }
            }
        }
        modulus.square_into(&mut total, work.last, &mut scratch);
        total
    });
}

/// So many numbers for each lane, in Montgomery's form; each lane picks its own.
struct LaneTable<'a> {
    modulus: &'a Montgomery,
    entries: usize,
    /// (lanes, entries, limbs)
    limbs: Vec<u64>,
}

impl<'a> LaneTable<'a> {
    /// All ones.
    fn new(entries: usize, modulus: &'a Montgomery) -> LaneTable<'a> {
        LaneTable {
            modulus,
            entries,
            limbs: modulus.unit().repeat(LANES * entries),
        }
    }

    fn entry(&self, lane: usize, entry: usize) -> &[u64] {
        let start = (lane * self.entries + entry) * self.modulus.limbs;
        &self.limbs[start..start + self.modulus.limbs]
    }

    fn gather(&self, block: &mut [Word], entries: &[usize; LANES]) {
        let rows = std::array::from_fn(|lane| self.entry(lane, entries[lane]));
        self.modulus.gather(block, &rows);
    }

    fn scatter(&mut self, block: &[Word], entries: &[usize; LANES]) {
        let length = self.modulus.limbs;
        let mut lanes = self.limbs.chunks_mut(self.entries * length);
        let mut rows = entries.map(|entry| {
            let lane = lanes.next().expect("as many as lanes");
            &mut lane[entry * length..(entry + 1) * length]
        });
        self.modulus.scatter(block, &mut rows);
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
    /// The products of all items, in Montgomery's form, and of lanes beyond the last.
    pub fn all_products(&self, modulus: &Montgomery, threads: usize) -> Vec<Vec<u64>> {
        let blocks: Vec<usize> = (0..self.items).step_by(LANES).collect();
        let share = blocks.len().div_ceil(threads.max(1)).max(1);
        let compute = |part: &[usize]| -> Vec<Vec<u64>> {
            part.iter()
                .flat_map(|&first| lanes_of(&self.products(first, modulus)))
                .collect()
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = blocks
                .chunks(share)
                .map(|part| scope.spawn(move || compute(part)))
                .collect();
            running
                .into_iter()
                .flat_map(|part| part.join().expect("a product does not panic"))
                .collect()
        })
    }

    /// The products of eight items, in Montgomery's form.
    fn products(&self, first: usize, modulus: &Montgomery) -> Vec<Word> {
        // What digits of zero choose is multiplied too, and never read.
        let mut buckets = LaneTable::new(self.largest + 1, modulus);
        let (mut scratch, mut block, mut factor) =
            (modulus.block(), modulus.block(), modulus.block());
        for row in 0..self.values.len() {
            let digits: [i16; LANES] = std::array::from_fn(|lane| {
                if first + lane < self.items {
                    self.digits[row * self.items + first + lane]
                } else {
                    0
                }
            });
            if digits == [0; LANES] {
                continue;
            }
            let entries = digits.map(|digit| digit.unsigned_abs() as usize);
            buckets.gather(&mut block, &entries);
            let sources: [&[u64]; LANES] = std::array::from_fn(|lane| {
                if digits[lane] < 0 {
                    &self.inverses[row][..]
                } else {
                    &self.values[row][..]
                }
            });
            modulus.gather(&mut factor, &sources);
            modulus.multiply_into(&mut block, &factor, &mut scratch);
            buckets.scatter(&block, &entries);
        }
        let (mut running, mut total) = (modulus.ones(), modulus.ones());
        for entry in (1..=self.largest).rev() {
            buckets.gather(&mut block, &[entry; LANES]);
            modulus.multiply_into(&mut running, &block, &mut scratch);
            modulus.multiply_into(&mut total, &running, &mut scratch);
        }
        total
    }
}

fn lanes_of(block: &[Word]) -> [Vec<u64>; LANES] {
    std::array::from_fn(|lane| {
        let mut limbs = vec![0; block.len()];
        take_lane(&mut limbs, block, lane);
        limbs
    })
}

/// Each number in Montgomery's form, for itself: what lanes are made of.
pub fn separate(values: Numbers, modulus: &Montgomery) -> Vec<Vec<u64>> {
    (0..values.count())
        .step_by(LANES)
        .flat_map(|first| {
            let lanes = lanes_of(&values.load(first, modulus));
            lanes.into_iter().take(values.count() - first)
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
        let (mut total, mut scratch, mut block) =
            (modulus.ones(), modulus.block(), modulus.block());
        for &(item, gap) in order {
            modulus.square_into(&mut total, gap, &mut scratch);
            // Lanes beyond the last feature repeat the first: nobody reads them.
            let of = |lane: usize| items.get((first + lane) * per_feature + item);
            modulus.gather(
                &mut block,
                &std::array::from_fn(|lane| of(lane).unwrap_or(&items[item]).as_slice()),
            );
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
    let share = values.len().div_ceil(LANES);
    let one = |feature: usize, part: &mut [u8]| {
        let mut sums = LaneTable::new(count, modulus);
        let (mut scratch, mut block, mut factor) =
            (modulus.block(), modulus.block(), modulus.block());
        for step in 0..share {
            let rows: [usize; LANES] = std::array::from_fn(|lane| lane * share + step);
            let entries = rows.map(|row| {
                if row < values.len() {
                    bins[row * features + feature] as usize
                } else {
                    0
                }
            });
            sums.gather(&mut block, &entries);
            let sources: [&[u64]; LANES] =
                rows.map(|row| values.get(row).map_or(modulus.unit(), Vec::as_slice));
            modulus.gather(&mut factor, &sources);
            modulus.multiply_into(&mut block, &factor, &mut scratch);
            sums.scatter(&block, &entries);
        }
        // Eight partial sums of a bin become one: eight bins at a time, lane after lane.
        fill(part, modulus, 1, |first| {
            let (mut total, mut scratch, mut factor) =
                (modulus.ones(), modulus.block(), modulus.block());
            for turn in 0..LANES {
                let bin = |lane: usize| sums.entry(turn, (first + lane).min(count - 1));
                modulus.gather(&mut factor, &std::array::from_fn(bin));
                modulus.multiply_into(&mut total, &factor, &mut scratch);
            }
            total
        });
    };
    let parts: Vec<(usize, &mut [u8])> =
        out.chunks_mut(count * modulus.bytes).enumerate().collect();
    let share = parts.len().div_ceil(threads.max(1));
    let mut parts = parts.into_iter();
    std::thread::scope(|scope| {
        loop {
            let mine: Vec<(usize, &mut [u8])> = parts.by_ref().take(share).collect();
            if mine.is_empty() {
                break;
            }
            let one = &one;
            scope.spawn(move || {
                mine.into_iter()
                    .for_each(|(feature, part)| one(feature, part))
            });
        }
    });
}
