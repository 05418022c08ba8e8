//! The products in AVX2, whose integer multipliers are short: each vector holds one limb of four numbers as
//! floating-point numbers, and fused multiply-adds give both halves of a product of 104 bits (Emmart, Zheng and Weems
//! 2018).
//!
//! Added to 2^104, where numbers have steps of 2^52, a product is rounded to its upper half h; the product less h 2^52 is
//! exact, from -2^51 to 2^51, and added to 3 * 2^51, where steps are 1. The bits of both sums count their steps, from the
//! bits of 2^104 and of 3 * 2^51 on. Limbs are summed as such bits, and what was counted from is taken off at the end.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::MOST_LIMBS;
use super::montgomery::{LIMB_BITS, MASK, Root, Word};

/// Lanes of a vector are half of a word's.
const HALVES: usize = 2;

/// 2^104 and 3 * 2^51.
const HIGH: f64 = (1u128 << 104) as f64;
const LOW: f64 = (3u64 << 51) as f64;
/// 2^52: below it there are the limbs, by its bits.
const WHOLE: f64 = (1u64 << LIMB_BITS) as f64;

/// A digit's limbs: integers, or numbers between which products are taken.
type Digit<T> = [MaybeUninit<T>; MOST_LIMBS];

/// out = a b / R modulo n^2, for digits to the base n; a shorter way where a and b are the same block.
///
/// # Safety
/// The processor must have avx2 and fma; all blocks have twice the root's length, which is 2 to `MOST_LIMBS`.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn multiply(out: &mut [Word], a: &[Word], b: &[Word], root: &Root) {
    let reduction = Reduction::new(root);
    let mut digits = [[MaybeUninit::uninit(); MOST_LIMBS]; 4];
    let [a0, a1, b0, b1] = digits.each_mut();
    let is_square = a.as_ptr() == b.as_ptr();
    for half in 0..HALVES {
        // Sound: a digit starts at 0 and at the root's length of each block, which is written before it is read.
        unsafe {
            let (low, high) = (limbs_of(a, half, 0), limbs_of(a, half, root.limbs.len()));
            reduction.read(a0, low);
            if is_square {
                reduction.read_twice(a1, high);
                let (a0, twice) = (&*a0, &*a1);
                reduction.pair(out, half, [(a0, a0)], [(a0, twice)]);
            } else {
                reduction.read(a1, high);
                reduction.read(b0, limbs_of(b, half, 0));
                reduction.read(b1, limbs_of(b, half, root.limbs.len()));
                let (a0, a1, b0, b1) = (&*a0, &*a1, &*b0, &*b1);
                reduction.pair(out, half, [(a0, b0)], [(a0, b1), (a1, b0)]);
            }
        }
    }
}

/// out = (l low + h high) / R modulo n^2, for the lower and the upper limbs of plain numbers.
///
/// # Safety
/// As above.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn load(out: &mut [Word], plain: &[Word], low: &[Word], high: &[Word], root: &Root) {
    let reduction = Reduction::new(root);
    let length = root.limbs.len();
    let mut digits = [[MaybeUninit::uninit(); MOST_LIMBS]; 6];
    for half in 0..HALVES {
        // Sound as above.
        unsafe {
            for (k, block) in [plain, low, high].into_iter().enumerate() {
                reduction.read(&mut digits[2 * k], limbs_of(block, half, 0));
                reduction.read(&mut digits[2 * k + 1], limbs_of(block, half, length));
            }
            let [l, h, low0, low1, high0, high1] = digits.each_ref();
            reduction.pair(out, half, [(l, low0), (h, high0)], [(l, low1), (h, high1)]);
        }
    }
}

/// The limbs of a half's lanes, every other vector from here on.
///
/// # Safety
/// The block has a word of this number.
unsafe fn limbs_of(block: &[Word], half: usize, word: usize) -> *const __m256i {
    unsafe { block.as_ptr().add(word).cast::<__m256i>().add(half) }
}

/// Factors of a product.
type Factors<'a> = (&'a Digit<__m256d>, &'a Digit<__m256d>);

/// What reductions by a root take.
struct Reduction<'a> {
    root: &'a Root,
    limbs: [f64; MOST_LIMBS],
    factor: __m256d,
}

impl<'a> Reduction<'a> {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(root: &'a Root) -> Reduction<'a> {
        assert!((2..=MOST_LIMBS).contains(&root.limbs.len()));
        let mut limbs = [0.0; MOST_LIMBS];
        for (number, &limb) in limbs.iter_mut().zip(&root.limbs) {
            *number = limb as i64 as f64;
        }
        let factor = _mm256_set1_pd(root.factor as f64);
        Reduction {
            root,
            limbs,
            factor,
        }
    }

    fn length(&self) -> usize {
        self.root.limbs.len()
    }

    /// A digit of limbs that are below 2^52.
    ///
    /// # Safety
    /// As many limbs as the root has can be read.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn read(&self, digit: &mut Digit<__m256d>, limbs: *const __m256i) {
        for (place, number) in digit[..self.length()].iter_mut().enumerate() {
            let limb = unsafe { _mm256_load_si256(limbs.add(HALVES * place)) };
            number.write(to_number(limb));
        }
    }

    /// Twice the digit of these limbs.
    ///
    /// # Safety
    /// As above.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn read_twice(&self, digit: &mut Digit<__m256d>, limbs: *const __m256i) {
        let mask = _mm256_set1_epi64x(MASK as i64);
        let mut carry = _mm256_setzero_si256();
        for (place, number) in digit[..self.length()].iter_mut().enumerate() {
            let limb = unsafe { _mm256_load_si256(limbs.add(HALVES * place)) };
            let twice = _mm256_add_epi64(_mm256_add_epi64(limb, limb), carry);
            number.write(to_number(_mm256_and_si256(twice, mask)));
            carry = _mm256_srli_epi64::<{ LIMB_BITS as i32 }>(twice);
        }
    }

    /// The digit that a sum of products reduces to, and the one of another sum less the first one's quotient.
    ///
    /// # Safety
    /// `out` has twice the root's length, and the factors have been read.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn pair<const A: usize, const B: usize>(
        &self,
        out: &mut [Word],
        half: usize,
        first: [Factors; A],
        second: [Factors; B],
    ) {
        let length = self.length();
        let mut sums: Digit<__m256i> = [MaybeUninit::uninit(); MOST_LIMBS];
        let mut quotients: Digit<__m256i> = [MaybeUninit::uninit(); MOST_LIMBS];
        sums[..length].fill(MaybeUninit::new(_mm256_setzero_si256()));
        // Sound: sums are there up to the root's length, and a reduction leaves as many quotients.
        unsafe {
            self.reduce(&mut sums, first, &mut quotients);
            let out = limbs_of(out, half, 0).cast_mut();
            put(out, &sums[..length]);
            let mask = _mm256_set1_epi64x(MASK as i64);
            for (place, &offset) in self.root.offset.iter().enumerate() {
                let rest = _mm256_sub_epi64(mask, quotients[place].assume_init());
                sums[place].write(_mm256_add_epi64(rest, _mm256_set1_epi64x(offset as i64)));
            }
            self.reduce(&mut sums, second, &mut quotients);
            put(out.add(HALVES * length), &sums[..length]);
        }
    }

    /// sums = (sums + products + m n) / R, with carries still to be taken on, and the limbs of m.
    ///
    /// # Safety
    /// Sums and factors have been written up to the root's length.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn reduce<const P: usize>(
        &self,
        sums: &mut Digit<__m256i>,
        factors: [Factors; P],
        quotients: &mut Digit<__m256i>,
    ) {
        let length = self.length();
        let mask = _mm256_set1_epi64x(MASK as i64);
        // What a limb counts from: each row adds so many lower halves to it, and upper ones of the limb below.
        let [lows, highs] = [LOW, HIGH].map(|from| (P as u64 + 1).wrapping_mul(from.to_bits()));
        let each_row = lows.wrapping_add(highs);
        // Sound: every index is below the root's length.
        unsafe {
            for row in 0..length {
                let digits = factors.map(|(_, b)| b[row].assume_init());
                // Limb 0: the quotient clears it.
                let from = each_row.wrapping_mul(row as u64).wrapping_add(lows);
                let mut first = _mm256_sub_epi64(sums[0].assume_init(), all(from));
                let mut upper = _mm256_setzero_si256();
                for k in 0..P {
                    let (high, low) = multiply_limbs(factors[k].0[0].assume_init(), digits[k]);
                    (first, upper) = (_mm256_add_epi64(first, low), _mm256_add_epi64(upper, high));
                }
                let rest = _mm256_add_epi64(first, all(LOW.to_bits()));
                let (_, low) = multiply_limbs(to_number(_mm256_and_si256(rest, mask)), self.factor);
                let low = _mm256_sub_epi64(low, all(LOW.to_bits()));
                quotients[row].write(_mm256_and_si256(low, mask));
                let quotient = to_number(quotients[row].assume_init());
                let (high, low) = multiply_limbs(_mm256_set1_pd(self.limbs[0]), quotient);
                upper = _mm256_add_epi64(upper, high);
                upper = _mm256_add_epi64(upper, carry_of(_mm256_add_epi64(first, low)));
                for place in 1..length {
                    let mut sum = _mm256_add_epi64(sums[place].assume_init(), upper);
                    let n = _mm256_set1_pd(*self.limbs.get_unchecked(place));
                    let (high, low) = multiply_limbs(n, quotient);
                    (sum, upper) = (_mm256_add_epi64(sum, low), high);
                    for k in 0..P {
                        let limb = factors[k].0.get_unchecked(place).assume_init();
                        let (high, low) = multiply_limbs(limb, digits[k]);
                        (sum, upper) = (_mm256_add_epi64(sum, low), _mm256_add_epi64(upper, high));
                    }
                    sums[place - 1].write(sum);
                }
                sums[length - 1].write(upper);
            }
            for (place, sum) in sums[..length].iter_mut().enumerate() {
                let rows = (length - 1 - place) as u64;
                let from = each_row.wrapping_mul(rows).wrapping_add(highs);
                sum.write(_mm256_sub_epi64(sum.assume_init(), all(from)));
            }
        }
    }
}

/// The bits of x y: the upper half, from `HIGH` on, and the rest, from `LOW` on, for limbs below 2^52.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_limbs(x: __m256d, y: __m256d) -> (__m256i, __m256i) {
    let from = _mm256_set1_pd(HIGH);
    let high = _mm256_fmadd_pd(x, y, from);
    let low = _mm256_fmadd_pd(x, y, _mm256_sub_pd(from, high));
    let low = _mm256_add_pd(low, _mm256_set1_pd(LOW));
    (_mm256_castpd_si256(high), _mm256_castpd_si256(low))
}

/// The number that a limb below 2^52 is.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn to_number(limb: __m256i) -> __m256d {
    let bits = _mm256_or_si256(limb, all(WHOLE.to_bits()));
    _mm256_sub_pd(_mm256_castsi256_pd(bits), _mm256_set1_pd(WHOLE))
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn all(word: u64) -> __m256i {
    _mm256_set1_epi64x(word as i64)
}

/// What goes over from a sum to the next limb; sums may be negative, and AVX2 shifts no signs.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn carry_of(sum: __m256i) -> __m256i {
    let lifted = _mm256_add_epi64(sum, all(1 << 63));
    let shifted = _mm256_srli_epi64::<{ LIMB_BITS as i32 }>(lifted);
    _mm256_sub_epi64(shifted, all(1 << (63 - LIMB_BITS)))
}

/// Sums with their carries taken on.
///
/// # Safety
/// There is room for as many limbs, and the sums have been written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn put(out: *mut __m256i, sums: &[MaybeUninit<__m256i>]) {
    let mask = _mm256_set1_epi64x(MASK as i64);
    let mut carry = _mm256_setzero_si256();
    for (place, sum) in sums.iter().enumerate() {
        unsafe {
            let sum = _mm256_add_epi64(sum.assume_init(), carry);
            _mm256_store_si256(out.add(HALVES * place), _mm256_and_si256(sum, mask));
            carry = carry_of(sum);
        }
    }
}
