//! The same products in plain words, lane by lane.

use super::montgomery::{LANES, LIMB_BITS, MASK, Root, Word};

/// out = a b / R modulo n^2, for digits to the base n.
pub fn multiply(out: &mut [Word], a: &[Word], b: &[Word], root: &Root) {
    let length = root.limbs.len();
    let ((a0, a1), (b0, b1)) = (a.split_at(length), b.split_at(length));
    pair(out, [(a0, b0)], [(a0, b1), (a1, b0)], root);
}

/// out = (l low + h high) / R modulo n^2, for the lower and the upper limbs of plain numbers.
pub fn load(out: &mut [Word], plain: &[Word], low: &[Word], high: &[Word], root: &Root) {
    let length = root.limbs.len();
    let (l, h) = plain.split_at(length);
    let ((low0, low1), (high0, high1)) = (low.split_at(length), high.split_at(length));
    pair(out, [(l, low0), (h, high0)], [(l, low1), (h, high1)], root);
}

type Factors<'a> = (&'a [Word], &'a [Word]);

/// The digit that a sum of products reduces to, and the one of another sum less the first one's quotient.
fn pair<const A: usize, const B: usize>(
    out: &mut [Word],
    first: [Factors; A],
    second: [Factors; B],
    root: &Root,
) {
    let length = root.limbs.len();
    let (low, high) = out.split_at_mut(length);
    let mut sums = vec![0u128; length];
    for lane in 0..LANES {
        sums.fill(0);
        let quotient = reduce(&mut sums, &first, lane, root);
        put(low, &sums, lane);
        for ((sum, digit), offset) in sums.iter_mut().zip(quotient).zip(&root.offset) {
            *sum = u128::from(MASK - digit) + u128::from(*offset);
        }
        reduce(&mut sums, &second, lane, root);
        put(high, &sums, lane);
    }
}

/// sums = (sums + products + m n) / R, and m.
fn reduce(sums: &mut [u128], factors: &[Factors], lane: usize, root: &Root) -> Vec<u64> {
    let n = &root.limbs;
    let length = n.len();
    let mut quotients = vec![0; length];
    for (row, quotient) in quotients.iter_mut().enumerate() {
        let product = |place: usize| -> u128 {
            let of = |(a, b): &Factors| u128::from(a[place].0[lane]) * u128::from(b[row].0[lane]);
            factors.iter().map(of).sum()
        };
        let first = sums[0] + product(0);
        *quotient = (first as u64).wrapping_mul(root.factor) & MASK;
        let mut carry = (first + u128::from(n[0]) * u128::from(*quotient)) >> LIMB_BITS;
        for place in 1..length {
            let sum =
                sums[place] + product(place) + u128::from(n[place]) * u128::from(*quotient) + carry;
            sums[place - 1] = sum & u128::from(MASK);
            carry = sum >> LIMB_BITS;
        }
        sums[length - 1] = carry;
    }
    quotients
}

/// The lane's limbs. The highest may hold a carry of its own; digits below 2n leave room for it.
fn put(out: &mut [Word], sums: &[u128], lane: usize) {
    for (word, &sum) in out.iter_mut().zip(sums) {
        word.0[lane] = sum as u64;
    }
}
