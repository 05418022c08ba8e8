//! One lane for any 64-bit processor: five limbs of 51 bits, products in 128 bits.

use super::field::{LIMB_BITS, LIMB_MASK, Lanes, Limbs, MAX_LANES, Mask};

/// Limbs below 2^51 + 2^13.
#[derive(Clone, Copy)]
pub struct Portable(Limbs);

/// 8p, limb by limb: more than any sum of two products, so that a difference stays above zero.
const BIAS: Limbs = [
    8 * (LIMB_MASK - 18),
    8 * LIMB_MASK,
    8 * LIMB_MASK,
    8 * LIMB_MASK,
    8 * LIMB_MASK,
];

#[inline(always)]
fn wide_product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// One round of carries from limbs of at most 64 bits.
#[inline(always)]
fn weak_carry(l: Limbs) -> Limbs {
    let c = l.map(|x| x >> LIMB_BITS);
    [
        (l[0] & LIMB_MASK) + 19 * c[4],
        (l[1] & LIMB_MASK) + c[0],
        (l[2] & LIMB_MASK) + c[1],
        (l[3] & LIMB_MASK) + c[2],
        (l[4] & LIMB_MASK) + c[3],
    ]
}

/// From sums of products below 2^115 to limbs below 2^51 + 2^13.
#[inline(always)]
fn carry_product(mut c: [u128; 5]) -> Limbs {
    let mut out = [0; 5];
    for k in 0..4 {
        // 59 bits at most: an addition of one word.
        c[k + 1] += u128::from((c[k] >> LIMB_BITS) as u64);
        out[k] = c[k] as u64 & LIMB_MASK;
    }
    out[4] = c[4] as u64 & LIMB_MASK;
    out[0] += 19 * (c[4] >> LIMB_BITS) as u64;
    out[1] += out[0] >> LIMB_BITS;
    out[0] &= LIMB_MASK;
    out
}

/// The only form below p.
#[inline(always)]
fn freeze(limbs: Limbs) -> Limbs {
    let mut l = weak_carry(limbs);
    // The quotient by p is 0 or 1: it is the carry out of x + 19.
    let mut q = (l[0] + 19) >> LIMB_BITS;
    for limb in &l[1..] {
        q = (limb + q) >> LIMB_BITS;
    }
    l[0] += 19 * q;
    for k in 0..4 {
        l[k + 1] += l[k] >> LIMB_BITS;
        l[k] &= LIMB_MASK;
    }
    l[4] &= LIMB_MASK;
    l
}

impl Lanes for Portable {
    const LANES: usize = 1;
    type Wide = Limbs;

    #[inline(always)]
    fn splat(limbs: Limbs) -> Self {
        Self(limbs)
    }

    #[inline(always)]
    fn from_limbs(limbs: &[Limbs; MAX_LANES]) -> Self {
        Self(limbs[0])
    }

    #[inline(always)]
    fn to_limbs(self) -> [Limbs; MAX_LANES] {
        let mut out = [[0; 5]; MAX_LANES];
        out[0] = freeze(self.0);
        out
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::carry(Self::wide_add(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::carry(Self::wide_sub(self.0, other.0))
    }

    #[inline(never)]
    fn power_sqrt(self) -> Self {
        self.power_252()
    }

    #[inline(always)]
    fn mul_wide(self, other: Self) -> Limbs {
        let (a, b) = (self.0, other.0);
        let n = b.map(|x| 19 * x);
        let m = wide_product;
        carry_product([
            m(a[0], b[0]) + m(a[1], n[4]) + m(a[2], n[3]) + m(a[3], n[2]) + m(a[4], n[1]),
            m(a[0], b[1]) + m(a[1], b[0]) + m(a[2], n[4]) + m(a[3], n[3]) + m(a[4], n[2]),
            m(a[0], b[2]) + m(a[1], b[1]) + m(a[2], b[0]) + m(a[3], n[4]) + m(a[4], n[3]),
            m(a[0], b[3]) + m(a[1], b[2]) + m(a[2], b[1]) + m(a[3], b[0]) + m(a[4], n[4]),
            m(a[0], b[4]) + m(a[1], b[3]) + m(a[2], b[2]) + m(a[3], b[1]) + m(a[4], b[0]),
        ])
    }

    #[inline(always)]
    fn square_wide(self) -> Limbs {
        let a = self.0;
        let d = a.map(|x| 2 * x);
        let (n3, n4) = (19 * a[3], 19 * a[4]);
        let m = wide_product;
        carry_product([
            m(a[0], a[0]) + m(d[1], n4) + m(d[2], n3),
            m(a[3], n3) + m(d[0], a[1]) + m(d[2], n4),
            m(a[1], a[1]) + m(d[0], a[2]) + m(d[3], n4),
            m(a[4], n4) + m(d[0], a[3]) + m(d[1], a[2]),
            m(a[2], a[2]) + m(d[0], a[4]) + m(d[1], a[3]),
        ])
    }

    #[inline(always)]
    fn wide_add(a: Limbs, b: Limbs) -> Limbs {
        [
            a[0] + b[0],
            a[1] + b[1],
            a[2] + b[2],
            a[3] + b[3],
            a[4] + b[4],
        ]
    }

    #[inline(always)]
    fn wide_sub(a: Limbs, b: Limbs) -> Limbs {
        let mut out = Self::wide_add(a, BIAS);
        for k in 0..5 {
            out[k] -= b[k];
        }
        out
    }

    #[inline(always)]
    fn carry(wide: Limbs) -> Self {
        Self(weak_carry(wide))
    }

    #[inline(always)]
    fn select(mask: Mask, a: Self, b: Self) -> Self {
        let keep = 0u64.wrapping_sub(u64::from(mask & 1));
        let mut out = b.0;
        for k in 0..5 {
            out[k] ^= keep & (a.0[k] ^ b.0[k]);
        }
        Self(out)
    }

    #[inline(always)]
    fn is_negative(self) -> Mask {
        (freeze(self.0)[0] & 1) as Mask
    }

    #[inline(always)]
    fn is_zero(self) -> Mask {
        let any = freeze(self.0).into_iter().fold(0, |all, limb| all | limb);
        // Limbs have 51 bits, so any - 1 is negative only where any is zero.
        (any.wrapping_sub(1) >> 63) as Mask
    }

    // Products come with their carries here.
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.mul_wide(other))
    }

    #[inline(always)]
    fn square(self) -> Self {
        Self(self.square_wide())
    }
}
