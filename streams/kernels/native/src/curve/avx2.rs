//! Four lanes of AVX2: ten limbs of 26 and 25 bits in turn, in the 64-bit words of a vector (Bernstein 2006).
//!
//! The multiplier takes 32 bits of each factor, which leaves room for a factor of 19 or 4 beside a limb.

use core::arch::asm;
use core::arch::x86_64::*;

use super::field::{Lanes, Limbs, MAX_LANES, Mask};

/// Even limbs below 2^26 + 2^16, odd ones below 2^25 + 2^16.
#[derive(Clone, Copy)]
pub struct Avx2(Words);

type Words = [__m256i; 10];

const LOW_26: u64 = (1 << 26) - 1;
const LOW_25: u64 = (1 << 25) - 1;

/// 2^35 p, limb by limb: more than any sum of two products before carries, so that a difference stays above zero.
const WIDE_BIAS: [u64; 10] = bias(1 << 35);
/// 4p: the same for differences of elements.
const BIAS: [u64; 10] = bias(4);

const fn bias(n: u64) -> [u64; 10] {
    let (even, odd) = (n * LOW_26, n * LOW_25);
    [
        n * (LOW_26 - 18),
        odd,
        even,
        odd,
        even,
        odd,
        even,
        odd,
        even,
        odd,
    ]
}

// All functions of this file are inlined into functions that need avx2, which run only after the processor was asked
// for it; that is what makes each `unsafe` block sound. Loads and stores go to arrays of the right size.

#[inline(always)]
fn set(x: u64) -> __m256i {
    unsafe { _mm256_set1_epi64x(x as i64) }
}

#[inline(always)]
fn plus(a: __m256i, b: __m256i) -> __m256i {
    unsafe { _mm256_add_epi64(a, b) }
}

#[inline(always)]
fn minus(a: __m256i, b: __m256i) -> __m256i {
    unsafe { _mm256_sub_epi64(a, b) }
}

/// The product of the low 32 bits.
#[inline(always)]
fn times(a: __m256i, b: __m256i) -> __m256i {
    unsafe { _mm256_mul_epu32(a, b) }
}

/// Limbs whose making the compiler does not see. It would move factors of 2 and 19 through the masks of 32 bits that
/// the multiplier stands for, and end with products of 64 bits, which take three multipliers each.
#[inline(always)]
fn opaque(mut limbs: Words) -> Words {
    for limb in &mut limbs {
        *limb = unsafe { hide(*limb) };
    }
    limbs
}

#[inline]
#[target_feature(enable = "avx2")]
fn hide(mut x: __m256i) -> __m256i {
    // Sound: no instruction at all.
    unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

/// 19 x of a word whose product fits in it.
#[inline(always)]
fn times_19(x: __m256i) -> __m256i {
    let (twice, sixteen) = unsafe { (_mm256_slli_epi64::<1>(x), _mm256_slli_epi64::<4>(x)) };
    plus(sixteen, plus(twice, x))
}

/// Move what limb `FROM` has above its bits into the next one; 2^255 = 19.
#[inline(always)]
fn carry_from<const FROM: usize>(l: &mut Words) {
    let (over, rest) = unsafe {
        if FROM.is_multiple_of(2) {
            (
                _mm256_srli_epi64::<26>(l[FROM]),
                _mm256_and_si256(l[FROM], set(LOW_26)),
            )
        } else {
            (
                _mm256_srli_epi64::<25>(l[FROM]),
                _mm256_and_si256(l[FROM], set(LOW_25)),
            )
        }
    };
    l[FROM] = rest;
    if FROM == 9 {
        l[0] = plus(l[0], times_19(over));
    } else {
        l[FROM + 1] = plus(l[FROM + 1], over);
    }
}

/// Carries from limbs of at most 62 bits, in two chains that run beside each other.
#[inline(always)]
fn carry_all(mut l: Words) -> Words {
    carry_from::<0>(&mut l);
    carry_from::<4>(&mut l);
    carry_from::<1>(&mut l);
    carry_from::<5>(&mut l);
    carry_from::<2>(&mut l);
    carry_from::<6>(&mut l);
    carry_from::<3>(&mut l);
    carry_from::<7>(&mut l);
    carry_from::<4>(&mut l);
    carry_from::<8>(&mut l);
    carry_from::<9>(&mut l);
    carry_from::<0>(&mut l);
    l
}

/// The only form below p.
#[inline(always)]
fn freeze(limbs: Words) -> Words {
    let mut l = carry_all(limbs);
    // The quotient by p is 0 or 1: it is the carry out of x + 19.
    let mut q = set(19);
    for k in 0..10 {
        let sum = plus(l[k], q);
        q = unsafe {
            if k % 2 == 0 {
                _mm256_srli_epi64::<26>(sum)
            } else {
                _mm256_srli_epi64::<25>(sum)
            }
        };
    }
    l[0] = plus(l[0], times(q, set(19)));
    carry_from::<0>(&mut l);
    carry_from::<1>(&mut l);
    carry_from::<2>(&mut l);
    carry_from::<3>(&mut l);
    carry_from::<4>(&mut l);
    carry_from::<5>(&mut l);
    carry_from::<6>(&mut l);
    carry_from::<7>(&mut l);
    carry_from::<8>(&mut l);
    l[9] = unsafe { _mm256_and_si256(l[9], set(LOW_25)) };
    l
}

/// Column `K` of a product: limb i of a times limb K - i of b, or 19 times limb K + 10 - i. A product of two odd limbs
/// counts twice.
#[inline(always)]
fn column<const K: usize>(a: &Words, a2: &Words, b: &Words, b19: &Words) -> __m256i {
    let mut sum = set(0);
    for i in 0..10 {
        let j = (K + 10 - i) % 10;
        let factor = if i % 2 == 1 && j % 2 == 1 {
            a2[i]
        } else {
            a[i]
        };
        sum = plus(sum, times(factor, if i > K { b19[j] } else { b[j] }));
    }
    sum
}

/// Column `K` of a square: products of two different limbs count twice more.
#[inline(always)]
fn square_column<const K: usize>(a: &Words, a2: &Words, a4: &Words, a19: &Words) -> __m256i {
    let mut sum = set(0);
    for i in 0..10 {
        let j = (K + 10 - i) % 10;
        if i <= j {
            let factor = match (i % 2 == 1 && j % 2 == 1, i == j) {
                (false, true) => a[i],
                (true, true) | (false, false) => a2[i],
                (true, false) => a4[i],
            };
            sum = plus(sum, times(factor, if i + j > K { a19[j] } else { a[j] }));
        }
    }
    sum
}

#[inline(always)]
fn all_times_19(a: &Words) -> Words {
    let mut out = *a;
    for limb in &mut out {
        *limb = times(*limb, set(19));
    }
    opaque(out)
}

#[inline(always)]
fn doubled(a: &Words) -> Words {
    let mut out = *a;
    for limb in &mut out {
        *limb = plus(*limb, *limb);
    }
    opaque(out)
}

/// A product before carries.
#[inline(always)]
fn product(a: &Words, b: &Words) -> Words {
    let (a, b) = (&opaque(*a), &opaque(*b));
    let (a2, b19) = (&doubled(a), &all_times_19(b));
    [
        column::<0>(a, a2, b, b19),
        column::<1>(a, a2, b, b19),
        column::<2>(a, a2, b, b19),
        column::<3>(a, a2, b, b19),
        column::<4>(a, a2, b, b19),
        column::<5>(a, a2, b, b19),
        column::<6>(a, a2, b, b19),
        column::<7>(a, a2, b, b19),
        column::<8>(a, a2, b, b19),
        column::<9>(a, a2, b, b19),
    ]
}

#[inline(always)]
fn square(a: &Words) -> Words {
    let a = &opaque(*a);
    let a2 = &doubled(a);
    let (a4, a19) = (&doubled(a2), &all_times_19(a));
    [
        square_column::<0>(a, a2, a4, a19),
        square_column::<1>(a, a2, a4, a19),
        square_column::<2>(a, a2, a4, a19),
        square_column::<3>(a, a2, a4, a19),
        square_column::<4>(a, a2, a4, a19),
        square_column::<5>(a, a2, a4, a19),
        square_column::<6>(a, a2, a4, a19),
        square_column::<7>(a, a2, a4, a19),
        square_column::<8>(a, a2, a4, a19),
        square_column::<9>(a, a2, a4, a19),
    ]
}

// Products are calls: in one piece with others the compiler mixes their steps, sixteen registers do not hold what is then
// alive, and it takes minutes over it.

#[inline(never)]
#[target_feature(enable = "avx2")]
fn wide_product(a: &Words, b: &Words) -> Words {
    product(a, b)
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn wide_square(a: &Words) -> Words {
    square(a)
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn carried_product(a: &Words, b: &Words) -> Words {
    carry_all(product(a, b))
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn power(x: Avx2) -> Avx2 {
    x.power_252()
}

impl Lanes for Avx2 {
    const LANES: usize = 4;
    type Wide = Words;

    #[inline(always)]
    fn splat(limbs: Limbs) -> Self {
        let mut out = [set(0); 10];
        for k in 0..5 {
            out[2 * k] = set(limbs[k] & LOW_26);
            out[2 * k + 1] = set(limbs[k] >> 26);
        }
        Self(out)
    }

    #[inline(always)]
    fn from_limbs(limbs: &[Limbs; MAX_LANES]) -> Self {
        let mut out = [set(0); 10];
        for k in 0..5 {
            let mut column = [0u64; 4];
            for lane in 0..4 {
                column[lane] = limbs[lane][k];
            }
            unsafe {
                let both = _mm256_loadu_si256(column.as_ptr().cast());
                out[2 * k] = _mm256_and_si256(both, set(LOW_26));
                out[2 * k + 1] = _mm256_srli_epi64::<26>(both);
            }
        }
        Self(out)
    }

    #[inline(always)]
    fn to_limbs(self) -> [Limbs; MAX_LANES] {
        let frozen = freeze(self.0);
        let mut out = [[0; 5]; MAX_LANES];
        for k in 0..5 {
            let mut column = [0u64; 4];
            unsafe {
                let both = plus(frozen[2 * k], _mm256_slli_epi64::<26>(frozen[2 * k + 1]));
                _mm256_storeu_si256(column.as_mut_ptr().cast(), both);
            }
            for lane in 0..4 {
                out[lane][k] = column[lane];
            }
        }
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::carry(Self::wide_add(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let mut out = self.0;
        for k in 0..10 {
            out[k] = minus(plus(out[k], set(BIAS[k])), other.0[k]);
        }
        Self::carry(out)
    }

    #[inline(always)]
    fn power_sqrt(self) -> Self {
        // Sound: as above.
        unsafe { power(self) }
    }

    #[inline(always)]
    fn mul_wide(self, other: Self) -> Words {
        // Sound: as above.
        unsafe { wide_product(&self.0, &other.0) }
    }

    #[inline(always)]
    fn square_wide(self) -> Words {
        // Sound: as above.
        unsafe { wide_square(&self.0) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // Sound: as above.
        Self(unsafe { carried_product(&self.0, &other.0) })
    }

    #[inline(always)]
    fn square(self) -> Self {
        // Not a call: most squares stand in the loops of `power`, one behind the other.
        Self(carry_all(square(&self.0)))
    }
    #[inline(always)]
    fn wide_add(a: Words, b: Words) -> Words {
        let mut out = a;
        for k in 0..10 {
            out[k] = plus(out[k], b[k]);
        }
        out
    }

    #[inline(always)]
    fn wide_sub(a: Words, b: Words) -> Words {
        let mut out = a;
        for k in 0..10 {
            out[k] = minus(plus(out[k], set(WIDE_BIAS[k])), b[k]);
        }
        out
    }

    #[inline(always)]
    fn carry(wide: Words) -> Self {
        Self(carry_all(wide))
    }

    #[inline(always)]
    fn select(mask: Mask, a: Self, b: Self) -> Self {
        let mut out = b.0;
        unsafe {
            let bits = _mm256_set_epi64x(8, 4, 2, 1);
            let lanes = _mm256_cmpeq_epi64(_mm256_and_si256(set(u64::from(mask)), bits), bits);
            for k in 0..10 {
                out[k] = _mm256_blendv_epi8(out[k], a.0[k], lanes);
            }
        }
        Self(out)
    }

    #[inline(always)]
    fn is_negative(self) -> Mask {
        // The sign of a word is its highest bit.
        unsafe {
            let sign = _mm256_slli_epi64::<63>(freeze(self.0)[0]);
            _mm256_movemask_pd(_mm256_castsi256_pd(sign)) as Mask
        }
    }

    #[inline(always)]
    fn is_zero(self) -> Mask {
        unsafe {
            let any = freeze(self.0)
                .into_iter()
                .fold(set(0), |any, limb| _mm256_or_si256(any, limb));
            let zero = _mm256_cmpeq_epi64(any, set(0));
            _mm256_movemask_pd(_mm256_castsi256_pd(zero)) as Mask
        }
    }
}
