//! Products against schoolbook arithmetic of 128 bits, back-ends against each other, and edges that Python cannot reach.

use super::chains::{Numbers, invert, multiply, power};
use super::montgomery::{Backend, LANES, Montgomery, Word, read_limbs};

/// Odd, of 33 to 62 bits, so that squares are words of 128 bits: tops that are nearly empty and nearly full.
const ROOTS: [u128; 5] = [
    (1 << 61) - 1,
    (1 << 32) + 15,
    (1 << 52) - 1,
    (1 << 46) + 1,
    0x3fff_ffff_ffff_ff61,
];

fn backends() -> impl Iterator<Item = Backend> {
    [Backend::Ifma, Backend::Avx2, Backend::Portable]
        .into_iter()
        .filter(|one| one.is_available())
}

fn schoolbook(mut a: u128, mut b: u128, n: u128) -> u128 {
    let mut sum = 0;
    while b > 0 {
        if b & 1 == 1 {
            sum = (sum + a) % n;
        }
        a = (a + a) % n;
        b >>= 1;
    }
    sum
}

/// A generator of Knuth's (TAOCP 2, 3.3.4), high bits first.
struct Draws(u128);

impl Draws {
    fn below(&mut self, n: u128) -> u128 {
        let mut word = || {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 32) as u64 as u128
        };
        (word() << 64 | word()) % n
    }
}

fn bytes_of(values: &[u128], width: usize) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes()[16 - width..].to_vec())
        .collect()
}

fn edges(n: u128, draws: &mut Draws) -> Vec<u128> {
    let mut values = vec![
        0,
        1,
        2,
        n - 1,
        n - 2,
        n / 2,
        (1 << 52) - 1,
        1 << 52,
        u64::MAX as u128,
    ];
    values.extend((0..20).map(|_| draws.below(n)));
    values
}

#[test]
fn products_are_those_of_schoolbook_arithmetic() {
    for backend in backends() {
        for root in ROOTS {
            let modulus = Montgomery::new(&root.to_be_bytes(), backend).unwrap();
            let (n, width) = (root * root, modulus.bytes);
            let mut draws = Draws(n);
            let a = edges(n, &mut draws);
            let b: Vec<u128> = edges(n, &mut draws).into_iter().rev().collect();
            let expected: Vec<u128> = a
                .iter()
                .zip(&b)
                .map(|(&x, &y)| schoolbook(x, y, n))
                .collect();
            for threads in [1, 2, 5] {
                let (x, y) = (bytes_of(&a, width), bytes_of(&b, width));
                let mut out = vec![0; x.len()];
                let (x, y) = (Numbers { bytes: &x, width }, Numbers { bytes: &y, width });
                multiply(&mut out, x, y, &modulus, threads);
                assert_eq!(
                    out,
                    bytes_of(&expected, width),
                    "{backend:?} {n:x} {threads}"
                );
            }
        }
    }
}

#[test]
fn powers_follow_from_products_and_inverses_undo_them() {
    for backend in backends() {
        // The square of a prime: Euler's exponent is known, and hardly a number is no unit.
        let root = (1u128 << 61) - 1;
        let (n, order) = (root * root, root * (root - 1));
        let modulus = Montgomery::new(&root.to_be_bytes(), backend).unwrap();
        let width = modulus.bytes;
        let values: Vec<u128> = (1..=19).map(|k| Draws(k).below(n - 1) + 1).collect();
        let joined = bytes_of(&values, width);
        let numbers = Numbers {
            bytes: &joined,
            width,
        };
        for exponent in [0u128, 1, 2, 31, 32, 33, order, order - 1] {
            let mut out = vec![0; joined.len()];
            power(&mut out, numbers, &exponent.to_be_bytes(), &modulus, 2);
            let expected: Vec<u128> = values
                .iter()
                .map(|&value| {
                    (0..128).rev().fold(1, |total, bit| {
                        let square = schoolbook(total, total, n);
                        if exponent >> bit & 1 == 1 {
                            schoolbook(square, value, n)
                        } else {
                            square
                        }
                    })
                })
                .collect();
            assert_eq!(out, bytes_of(&expected, width), "{backend:?} {exponent:x}");
        }
        let mut out = vec![0; joined.len()];
        let euler = |ends: &[u8]| -> Result<Vec<u8>, ()> {
            let mut inverses = vec![0; ends.len()];
            let numbers = Numbers { bytes: ends, width };
            power(
                &mut inverses,
                numbers,
                &(order - 1).to_be_bytes(),
                &modulus,
                1,
            );
            Ok(inverses)
        };
        invert(&mut out, numbers, &modulus, euler).unwrap();
        let mut units = vec![0; joined.len()];
        multiply(
            &mut units,
            numbers,
            Numbers { bytes: &out, width },
            &modulus,
            1,
        );
        assert_eq!(units, bytes_of(&[1; 19], width), "{backend:?}");
        assert_eq!(
            invert(&mut out, numbers, &modulus, |_| Err("no unit")),
            Err("no unit")
        );
    }
}

#[test]
fn back_ends_agree_on_numbers_as_large_as_numbers_get() {
    for limbs in [2usize, 3, 20, 40, 59, 128] {
        // All ones but the six highest bits: sums of half products are as large as they can be.
        let mut root = vec![0xff; (limbs * 52 - 6).div_ceil(8)];
        root[0] >>= 8 * root.len() - (limbs * 52 - 6);
        for backend in backends() {
            let modulus = Montgomery::new(&root, backend).unwrap();
            let width = modulus.bytes;
            assert_eq!(modulus.limbs, 2 * limbs);
            // n^2 - 1 is its own inverse.
            let mut largest = modulus.modulus.clone();
            *largest.last_mut().unwrap() -= 1;
            let joined = largest.repeat(LANES + 1);
            let numbers = Numbers {
                bytes: &joined,
                width,
            };
            let mut out = vec![0; joined.len()];
            multiply(&mut out, numbers, numbers, &modulus, 1);
            let one = [vec![0; width - 1], vec![1]].concat();
            assert_eq!(out, one.repeat(LANES + 1), "{backend:?} {limbs}");
            power(&mut out, numbers, &[3], &modulus, 1);
            assert_eq!(out, joined, "{backend:?} {limbs}");
        }
    }
}

/// Digits of a block that are no less than so many times the root, over all lanes.
fn count_digits_from(block: &[Word], root: u128, times: u128) -> usize {
    let length = block.len() / 2;
    let mut bound = vec![0; length];
    read_limbs(&(times * root).to_be_bytes(), &mut bound);
    let is_below = |digit: &[Word], lane: usize| {
        let limbs = digit.iter().map(|word| word.0[lane]).rev();
        limbs.lt(bound.iter().rev().copied())
    };
    let both = block.chunks(length);
    both.map(|digit| (0..LANES).filter(|&lane| !is_below(digit, lane)).count())
        .sum()
}

#[test]
fn digits_stay_below_twice_the_root_and_squares_are_products() {
    for backend in backends() {
        let root = ROOTS[4];
        let modulus = Montgomery::new(&root.to_be_bytes(), backend).unwrap();
        let wide = [0xff; 15];
        let mut block = modulus.load(&[Some(&wide[..]); LANES]);
        assert_eq!(count_digits_from(&block, root, 4), 0, "{backend:?}");
        let (mut scratch, mut product) = (modulus.block(), modulus.block());
        for _ in 0..1000 {
            let copy = block.clone();
            modulus.multiply(&mut product, &block, &copy);
            modulus.square_into(&mut block, 1, &mut scratch);
            assert_eq!(block, product, "{backend:?}");
            assert_eq!(count_digits_from(&block, root, 2), 0, "{backend:?}");
        }
    }
}

#[test]
fn moduli_that_are_none_are_refused() {
    for bytes in [&[][..], &[0, 0], &[5], &[2; 20], &[0xff; 4]] {
        assert!(Montgomery::new(bytes, Backend::Portable).is_none());
    }
}
