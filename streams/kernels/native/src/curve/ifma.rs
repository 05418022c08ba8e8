//! Eight lanes of AVX-512 with 52-bit multipliers (IFMA): five limbs of 51 bits in the 64-bit words of a vector.
//!
//! The multiplier takes 52 bits of a factor, so factors are below 2^52. Its upper half counts 2^52, a limb 2^51;
//! hence upper halves count twice. The layout follows Gueron and Krasnov 2016 (software of Curve25519 on IFMA).

use core::arch::x86_64::*;

use super::field::{LIMB_BITS, LIMB_MASK, Lanes, Limbs, MAX_LANES, Mask};

/// Limbs below 2^51 + 2^18.
#[derive(Clone, Copy)]
pub struct Ifma([__m512i; 5]);

/// 2^11 p, limb by limb: more than any sum of two products before carries, so that a difference stays above zero.
const WIDE_BIAS: Limbs = bias(1 << 11);
/// 4p: the same for differences of elements.
const BIAS: Limbs = bias(4);

const fn bias(n: u64) -> Limbs {
    [
        n * (LIMB_MASK - 18),
        n * LIMB_MASK,
        n * LIMB_MASK,
        n * LIMB_MASK,
        n * LIMB_MASK,
    ]
}

// All functions of this file are inlined into functions that need avx512f, avx512dq and avx512ifma, which run only
// after the processor was asked for them; that is what makes each `unsafe` block sound. Loads and stores go to arrays
// of the right size.

#[inline(always)]
fn set(x: u64) -> __m512i {
    unsafe { _mm512_set1_epi64(x as i64) }
}

#[inline(always)]
fn plus(a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_add_epi64(a, b) }
}

#[inline(always)]
fn minus(a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_sub_epi64(a, b) }
}

/// sum + the low 52 bits of a b.
#[inline(always)]
fn low(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_madd52lo_epu64(sum, a, b) }
}

/// sum + the bits of a b above 52.
#[inline(always)]
fn high(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    unsafe { _mm512_madd52hi_epu64(sum, a, b) }
}

#[inline(always)]
fn above(x: __m512i) -> __m512i {
    unsafe { _mm512_srli_epi64::<LIMB_BITS>(x) }
}

#[inline(always)]
fn below(x: __m512i) -> __m512i {
    unsafe { _mm512_and_si512(x, set(LIMB_MASK)) }
}

#[inline(always)]
fn times_19(x: __m512i) -> __m512i {
    unsafe { _mm512_mullo_epi64(x, set(19)) }
}

/// Fold the limbs above 2^255 into those below: 2^255 = 19. Columns are below 2^57 above and 2^59 below.
#[inline(always)]
fn fold(low_columns: [__m512i; 5], high_columns: [__m512i; 5]) -> [__m512i; 5] {
    let mut out = low_columns;
    for k in 0..5 {
        out[k] = plus(out[k], times_19(high_columns[k]));
    }
    out
}

/// One round of carries from limbs of at most 63 bits.
#[inline(always)]
fn weak_carry(l: [__m512i; 5]) -> [__m512i; 5] {
    let c = [
        above(l[0]),
        above(l[1]),
        above(l[2]),
        above(l[3]),
        above(l[4]),
    ];
    [
        low(below(l[0]), c[4], set(19)),
        plus(below(l[1]), c[0]),
        plus(below(l[2]), c[1]),
        plus(below(l[3]), c[2]),
        plus(below(l[4]), c[3]),
    ]
}

/// The only form below p.
#[inline(always)]
fn freeze(limbs: [__m512i; 5]) -> [__m512i; 5] {
    let mut l = weak_carry(limbs);
    // The quotient by p is 0 or 1: it is the carry out of x + 19.
    let mut q = above(plus(l[0], set(19)));
    for k in 1..5 {
        q = above(plus(l[k], q));
    }
    l[0] = low(l[0], q, set(19));
    for k in 0..4 {
        l[k + 1] = plus(l[k + 1], above(l[k]));
        l[k] = below(l[k]);
    }
    l[4] = below(l[4]);
    l
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn power(x: Ifma) -> Ifma {
    x.power_252()
}

impl Lanes for Ifma {
    const LANES: usize = 8;
    type Wide = [__m512i; 5];

    #[inline(always)]
    fn splat(limbs: Limbs) -> Self {
        Self([
            set(limbs[0]),
            set(limbs[1]),
            set(limbs[2]),
            set(limbs[3]),
            set(limbs[4]),
        ])
    }

    #[inline(always)]
    fn from_limbs(limbs: &[Limbs; MAX_LANES]) -> Self {
        let mut out = [set(0); 5];
        for k in 0..5 {
            let mut column = [0u64; MAX_LANES];
            for lane in 0..MAX_LANES {
                column[lane] = limbs[lane][k];
            }
            out[k] = unsafe { _mm512_loadu_si512(column.as_ptr().cast()) };
        }
        Self(out)
    }

    #[inline(always)]
    fn to_limbs(self) -> [Limbs; MAX_LANES] {
        let frozen = freeze(self.0);
        let mut out = [[0; 5]; MAX_LANES];
        for k in 0..5 {
            let mut column = [0u64; MAX_LANES];
            unsafe { _mm512_storeu_si512(column.as_mut_ptr().cast(), frozen[k]) };
            for lane in 0..MAX_LANES {
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
        for k in 0..5 {
            out[k] = minus(plus(out[k], set(BIAS[k])), other.0[k]);
        }
        Self::carry(out)
    }

    #[inline(always)]
    fn power_sqrt(self) -> Self {
        unsafe { power(self) }
    }

    #[inline(always)]
    fn mul_wide(self, other: Self) -> Self::Wide {
        let (a, b) = (self.0, other.0);
        let mut columns = [set(0); 10];
        for i in 0..5 {
            for j in 0..5 {
                columns[i + j + 1] = high(columns[i + j + 1], a[i], b[j]);
            }
        }
        for column in &mut columns[1..] {
            *column = plus(*column, *column);
        }
        for i in 0..5 {
            for j in 0..5 {
                columns[i + j] = low(columns[i + j], a[i], b[j]);
            }
        }
        let [c0, c1, c2, c3, c4, c5, c6, c7, c8, c9] = columns;
        fold([c0, c1, c2, c3, c4], [c5, c6, c7, c8, c9])
    }

    #[inline(always)]
    fn square_wide(self) -> Self::Wide {
        let a = self.0;
        let mut columns = [set(0); 10];
        // Products of two different limbs count twice, upper halves twice more.
        for i in 0..5 {
            for j in i + 1..5 {
                columns[i + j + 1] = high(columns[i + j + 1], a[i], a[j]);
            }
        }
        for column in &mut columns[2..9] {
            *column = plus(*column, *column);
        }
        for i in 0..5 {
            columns[2 * i + 1] = high(columns[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                columns[i + j] = low(columns[i + j], a[i], a[j]);
            }
        }
        for column in &mut columns[1..] {
            *column = plus(*column, *column);
        }
        for i in 0..5 {
            columns[2 * i] = low(columns[2 * i], a[i], a[i]);
        }
        let [c0, c1, c2, c3, c4, c5, c6, c7, c8, c9] = columns;
        fold([c0, c1, c2, c3, c4], [c5, c6, c7, c8, c9])
    }

    #[inline(always)]
    fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide {
        [
            plus(a[0], b[0]),
            plus(a[1], b[1]),
            plus(a[2], b[2]),
            plus(a[3], b[3]),
            plus(a[4], b[4]),
        ]
    }

    #[inline(always)]
    fn wide_sub(a: Self::Wide, b: Self::Wide) -> Self::Wide {
        let mut out = a;
        for k in 0..5 {
            out[k] = minus(plus(out[k], set(WIDE_BIAS[k])), b[k]);
        }
        out
    }

    #[inline(always)]
    fn carry(wide: Self::Wide) -> Self {
        Self(weak_carry(wide))
    }

    #[inline(always)]
    fn select(mask: Mask, a: Self, b: Self) -> Self {
        let mut out = b.0;
        for k in 0..5 {
            out[k] = unsafe { _mm512_mask_mov_epi64(out[k], mask, a.0[k]) };
        }
        Self(out)
    }

    #[inline(always)]
    fn is_negative(self) -> Mask {
        unsafe { _mm512_test_epi64_mask(freeze(self.0)[0], set(1)) }
    }

    #[inline(always)]
    fn is_zero(self) -> Mask {
        let l = freeze(self.0);
        unsafe {
            let any = _mm512_or_si512(_mm512_or_si512(l[0], l[1]), _mm512_or_si512(l[2], l[3]));
            let any = _mm512_or_si512(any, l[4]);
            _mm512_testn_epi64_mask(any, any)
        }
    }
}
