//! What is computed of many numbers: eight at a time, and the eights shared out to threads.

use super::montgomery::{LANES, Montgomery, Word};

/// Joined numbers of one width.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    pub bytes: &'a [u8],
    pub width: usize,
}

impl<'a> Numbers<'a> {
    pub fn count(&self) -> usize {
        self.bytes.len() / self.width
    }

    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.count()).then(|| &self.bytes[self.width * index..self.width * (index + 1)])
    }

    /// Eight of them in Montgomery's form, the first at this index; one beyond the end.
    pub fn load(&self, first: usize, modulus: &Montgomery) -> Vec<Word> {
        modulus.load(&std::array::from_fn(|lane| self.get(first + lane)))
    }
}

/// Fill `out`, joined numbers of the modulus's width, eight numbers at a time: `compute` gives those from an index on.
pub fn fill(
    out: &mut [u8],
    modulus: &Montgomery,
    threads: usize,
    compute: impl Fn(usize) -> Vec<Word> + Sync,
) {
    let block_bytes = LANES * modulus.bytes;
    let blocks = out.len().div_ceil(block_bytes).max(1);
    let share = blocks.div_ceil(threads.max(1));
    let run = |start: usize, part: &mut [u8]| {
        for (number, bytes) in part.chunks_mut(block_bytes).enumerate() {
            let block = compute((start + number) * LANES);
            let mut rest = bytes.chunks_mut(modulus.bytes);
            modulus.store(&block, &mut std::array::from_fn(|_| rest.next()));
        }
    };
    if threads <= 1 {
        return run(0, out);
    }
    std::thread::scope(|scope| {
        for (number, part) in out.chunks_mut(share * block_bytes).enumerate() {
            scope.spawn(move || run(number * share, part));
        }
    });
}

/// a_i b_i; `b` may be one number for all.
pub fn multiply(out: &mut [u8], a: Numbers, b: Numbers, modulus: &Montgomery, threads: usize) {
    let is_common = b.count() == 1;
    fill(out, modulus, threads, |first| {
        let x = a.load(first, modulus);
        let y = if is_common {
            modulus.load(&[b.get(0); LANES])
        } else {
            b.load(first, modulus)
        };
        let mut product = modulus.block();
        modulus.multiply(&mut product, &x, &y);
        product
    });
}

/// a_i b_i of numbers in Montgomery's form.
pub fn multiply_blocks(
    out: &mut [u8],
    a: &[Vec<Word>],
    b: &[Vec<Word>],
    modulus: &Montgomery,
    threads: usize,
) {
    fill(out, modulus, threads, |first| {
        let mut product = modulus.block();
        modulus.multiply(&mut product, &a[first / LANES], &b[first / LANES]);
        product
    });
}

/// Bits of a digit of a common exponent.
const WINDOW: usize = 5;

/// value_i ^ exponent for one exponent (big-endian): fixed windows, as many products whatever its bits are.
pub fn power(
    out: &mut [u8],
    values: Numbers,
    exponent: &[u8],
    modulus: &Montgomery,
    threads: usize,
) {
    let bits = 8 * exponent.len();
    let bit = |place: usize| (exponent[exponent.len() - 1 - place / 8] >> (place % 8) & 1) as usize;
    let digits: Vec<usize> = (0..bits.div_ceil(WINDOW))
        .rev()
        .map(|k| {
            (0..WINDOW).rev().fold(0, |digit, j| {
                let place = WINDOW * k + j;
                2 * digit + if place < bits { bit(place) } else { 0 }
            })
        })
        .collect();
    fill(out, modulus, threads, |first| {
        let base = values.load(first, modulus);
        let mut table = vec![modulus.ones(), base.clone()];
        for k in 2..1 << WINDOW {
            let mut next = modulus.block();
            modulus.multiply(&mut next, &table[k - 1], &base);
            table.push(next);
        }
        let (mut total, mut scratch) = (modulus.ones(), modulus.block());
        for &digit in &digits {
            modulus.square_into(&mut total, WINDOW, &mut scratch);
            modulus.multiply_into(&mut total, &table[digit], &mut scratch);
        }
        total
    });
}

/// The inverses of units; see `invert_blocks`.
pub fn invert<E>(
    out: &mut [u8],
    values: Numbers,
    modulus: &Montgomery,
    invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let loaded: Vec<Vec<Word>> = (0..values.count())
        .step_by(LANES)
        .map(|first| values.load(first, modulus))
        .collect();
    let inverses = invert_blocks(&loaded, modulus, invert)?;
    fill(out, modulus, 1, |first| inverses[first / LANES].clone());
    Ok(())
}

/// The inverses of units in Montgomery's form, by one inversion in eight chains (Montgomery 1987): `invert` is told eight
/// joined numbers, and gives theirs, or an error.
pub fn invert_blocks<E>(
    units: &[Vec<Word>],
    modulus: &Montgomery,
    invert: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<Vec<Word>>, E> {
    let mut prefixes = vec![modulus.ones()];
    for block in units {
        let mut next = modulus.block();
        modulus.multiply(&mut next, &prefixes[prefixes.len() - 1], block);
        prefixes.push(next);
    }
    let mut ends = vec![0; LANES * modulus.bytes];
    let mut places = ends.chunks_mut(modulus.bytes);
    modulus.store(
        &prefixes[units.len()],
        &mut std::array::from_fn(|_| places.next()),
    );
    let inverted = invert(&ends)?;
    let (mut running, mut scratch) = (
        Numbers {
            bytes: &inverted,
            width: modulus.bytes,
        }
        .load(0, modulus),
        modulus.block(),
    );
    // From the last prefix down, each is replaced by the inverse of its unit.
    for (prefix, unit) in prefixes.iter_mut().zip(units).rev() {
        modulus.multiply_into(prefix, &running, &mut scratch);
        modulus.multiply_into(&mut running, unit, &mut scratch);
    }
    prefixes.truncate(units.len());
    Ok(prefixes)
}
