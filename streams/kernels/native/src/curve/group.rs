//! Ristretto255 over any lanes: decoding, one scalar for all points, and the encoding of many doubled points at once.
//!
//! Sources: RFC 9496, sections 4.3.1 and 4.3.2; Hisil, Wong, Carter, Dawson 2008 (twisted Edwards coordinates, a = -1).

use super::field::{
    D, D2, INVSQRT_A_MINUS_D, LIMB_MASK, Lanes, Limbs, MAX_LANES, Mask, SQRT_M1, all_lanes,
};
use super::field::{bytes_of, limbs_of};
use super::scalar::Digits;

/// x = X/Z, y = Y/Z, xy = T/Z.
#[derive(Clone, Copy)]
pub struct Point<F> {
    pub x: F,
    pub y: F,
    pub z: F,
    pub t: F,
}

/// The same without T, which a doubling does not need.
#[derive(Clone, Copy)]
struct Projective<F> {
    x: F,
    y: F,
    z: F,
}

/// What an addition takes of its second point.
#[derive(Clone, Copy)]
struct Cached<F> {
    sum: F,
    difference: F,
    z2: F,
    t2d: F,
}

/// x = E/G, y = H/F before the products: what doublings and additions end with.
#[derive(Clone, Copy)]
struct Completed<F> {
    e: F,
    f: F,
    g: F,
    h: F,
}

impl<F: Lanes> Completed<F> {
    #[inline(always)]
    fn projective(self) -> Projective<F> {
        Projective {
            x: self.e.mul(self.f),
            y: self.g.mul(self.h),
            z: self.f.mul(self.g),
        }
    }

    #[inline(always)]
    fn point(self) -> Point<F> {
        let Projective { x, y, z } = self.projective();
        Point {
            x,
            y,
            z,
            t: self.e.mul(self.h),
        }
    }
}

impl<F: Lanes> Projective<F> {
    #[inline(always)]
    fn double(self) -> Completed<F> {
        let (xx, yy, zz) = (
            self.x.square_wide(),
            self.y.square_wide(),
            self.z.square_wide(),
        );
        let both = self.x.add(self.y).square_wide();
        let h = F::wide_add(xx, yy);
        Completed {
            e: F::carry(F::wide_sub(both, h)),
            f: F::carry(F::wide_sub(F::wide_add(F::wide_add(zz, zz), xx), yy)),
            g: F::carry(F::wide_sub(yy, xx)),
            h: F::carry(h),
        }
    }
}

impl<F: Lanes> Cached<F> {
    #[inline(always)]
    fn identity() -> Self {
        let one = F::one();
        Self {
            sum: one,
            difference: one,
            z2: F::splat([2, 0, 0, 0, 0]),
            t2d: F::zero(),
        }
    }

    #[inline(always)]
    fn select(mask: Mask, a: &Self, b: &Self) -> Self {
        Self {
            sum: F::select(mask, a.sum, b.sum),
            difference: F::select(mask, a.difference, b.difference),
            z2: F::select(mask, a.z2, b.z2),
            t2d: F::select(mask, a.t2d, b.t2d),
        }
    }
}

impl<F: Lanes> Point<F> {
    #[inline(always)]
    fn projective(&self) -> Projective<F> {
        Projective {
            x: self.x,
            y: self.y,
            z: self.z,
        }
    }

    #[inline(always)]
    fn cached(&self) -> Cached<F> {
        Cached {
            sum: self.y.add(self.x),
            difference: self.y.sub(self.x),
            z2: self.z.add(self.z),
            t2d: self.t.mul(F::splat(D2)),
        }
    }

    /// Add `other`, or subtract it where `minus` is 1: that exchanges its sum and difference and negates its T.
    #[inline(always)]
    fn add(&self, other: &Cached<F>, minus: u8) -> Completed<F> {
        let swap = all_lanes(minus);
        let sum = F::select(swap, other.difference, other.sum);
        let difference = F::select(swap, other.sum, other.difference);
        let a = self.y.sub(self.x).mul_wide(difference);
        let b = self.y.add(self.x).mul_wide(sum);
        let c = self.t.mul_wide(other.t2d);
        let d = self.z.mul_wide(other.z2);
        let less = F::carry(F::wide_sub(d, c));
        let more = F::carry(F::wide_add(d, c));
        Completed {
            e: F::carry(F::wide_sub(b, a)),
            f: F::select(swap, more, less),
            g: F::select(swap, less, more),
            h: F::carry(F::wide_add(b, a)),
        }
    }

    #[inline(always)]
    pub fn add_point(&self, other: &Self) -> Self {
        self.add(&other.cached(), 0).point()
    }

    /// DECODE: the lanes whose strings are canonical encodings, and their points; other lanes hold anything.
    #[inline(always)]
    pub fn decode(encodings: &[[u8; 32]; MAX_LANES]) -> (Mask, Self) {
        let mut limbs: [Limbs; MAX_LANES] = [[0; 5]; MAX_LANES];
        let mut canonical: Mask = 0;
        for (lane, encoding) in encodings.iter().enumerate().take(F::LANES) {
            limbs[lane] = limbs_of(encoding);
            canonical |= is_canonical(encoding, &limbs[lane]) << lane;
        }
        let s = F::from_limbs(&limbs);
        let one = F::one();
        let ss = s.square();
        let u1 = one.sub(ss);
        let u2 = one.add(ss);
        let u2u2 = u2.square();
        let v = F::zero().sub(F::splat(D).mul(u1.square())).sub(u2u2);
        let (square, inverse) = F::sqrt_ratio(one, v.mul(u2u2));
        let den_x = inverse.mul(u2);
        let den_y = inverse.mul(den_x).mul(v);
        let x = s.add(s).mul(den_x).abs();
        let y = u1.mul(den_y);
        let t = x.mul(y);
        let valid = canonical & square & !t.is_negative() & !y.is_zero();
        (valid, Self { x, y, z: one, t })
    }

    /// Each lane's point times the scalar of the digits, the same in all lanes. Which entry of the table is taken
    /// shows neither in branches nor in addresses.
    #[inline(always)]
    pub fn multiply(&self, digits: &Digits) -> Self {
        let table = self.multiples();
        let mut sum = Self {
            x: F::zero(),
            y: F::one(),
            z: F::one(),
            t: F::zero(),
        };
        for (place, &digit) in digits.iter().rev().enumerate() {
            if place > 0 {
                let mut double = sum.projective().double();
                for _ in 0..3 {
                    double = double.projective().double();
                }
                sum = double.point();
            }
            let minus = (digit as u8) >> 7;
            let magnitude = ((digit as u8) ^ 0u8.wrapping_sub(minus)).wrapping_add(minus);
            let mut chosen = Cached::identity();
            for (index, entry) in table.iter().enumerate() {
                let other = magnitude ^ (index as u8 + 1);
                // 255 is what 0 - 1 gives; other differences are below 128.
                chosen = Cached::select(all_lanes(other.wrapping_sub(1) >> 7), entry, &chosen);
            }
            sum = sum.add(&chosen, minus).point();
        }
        sum
    }

    /// Once to eight times the point.
    #[inline(always)]
    fn multiples(&self) -> [Cached<F>; 8] {
        let first = self.cached();
        let mut table = [first; 8];
        let mut points = [*self; 8];
        for index in 1..8 {
            points[index] = if index % 2 == 1 {
                points[index / 2].projective().double().point()
            } else {
                points[index - 1].add(&first, 0).point()
            };
            table[index] = points[index].cached();
        }
        table
    }

    /// ENCODE, one inverse square root for each lane. Strings of lanes that the back-end does not have are zero.
    #[inline(always)]
    pub fn encode(&self) -> [[u8; 32]; MAX_LANES] {
        let Self { x, y, z, t } = *self;
        let u1 = z.add(y).mul(z.sub(y));
        let u2 = x.mul(y);
        let (_, inverse) = F::sqrt_ratio(F::one(), u1.mul(u2.square()));
        let den1 = inverse.mul(u1);
        let den2 = inverse.mul(u2);
        let z_inverse = den1.mul(den2).mul(t);
        let i = F::splat(SQRT_M1);
        let rotate = t.mul(z_inverse).is_negative();
        let new_x = F::select(rotate, y.mul(i), x);
        let new_y = F::select(rotate, x.mul(i), y);
        let den = F::select(rotate, den1.mul(F::splat(INVSQRT_A_MINUS_D)), den2);
        let new_y = new_y.negate_where(new_x.mul(z_inverse).is_negative());
        strings(den.mul(z.sub(new_y)).abs())
    }
}

/// Double each point and encode it. One inversion serves the whole slice (Montgomery's trick), where ENCODE takes an
/// inverse square root a point: for a doubled point that root is known up to its sign, which the encoding drops.
///
/// With e = 2XY, f = Y^2 - X^2, g = Y^2 + X^2, h = 2Z^2 - f the doubled point is x = e/f, y = g/h, and by the
/// curve's equation u1 u2^2 of ENCODE is (a - d)(f e)^2 (e f g h)^2, a square whose root needs products alone.
#[inline(always)]
pub fn encode_doubled<F: Lanes>(
    points: &[Point<F>],
    mut take: impl FnMut(usize, [[u8; 32]; MAX_LANES]),
) {
    let one = F::one();
    let mut running = one;
    let mut states = Vec::with_capacity(points.len());
    for point in points {
        let Completed {
            e,
            f: h,
            g: f,
            h: g,
        } = point.projective().double();
        let (ef, gh) = (e.mul(f), g.mul(h));
        let product = ef.mul(gh);
        // The identity has e = 0; its encoding is zero whatever the inverse is.
        let zero = product.is_zero();
        states.push((e, f, g, h, running, product, zero));
        running = running.mul(F::select(zero, one, product));
    }
    let mut inverse_running = running.invert();
    let i = F::splat(SQRT_M1);
    let root = F::splat(INVSQRT_A_MINUS_D);
    for (index, &(e, f, g, h, before, product, zero)) in states.iter().enumerate().rev() {
        let inverse = F::select(zero, F::zero(), inverse_running.mul(before));
        inverse_running = inverse_running.mul(F::select(zero, one, product));
        let (ef, eg, gh) = (e.mul(f), e.mul(g), g.mul(h));
        let z_inverse = eg.mul(inverse);
        let rotate = eg.mul(z_inverse).is_negative();
        let (eh, gf, fh) = (e.mul(h), g.mul(f), f.mul(h));
        let x = F::select(rotate, gf.mul(i), eh);
        let y = F::select(rotate, eh.mul(i), gf);
        let den = F::select(rotate, ef, gh.mul(root)).mul(inverse);
        let y = y.negate_where(x.mul(z_inverse).is_negative());
        take(index, strings(den.mul(fh.sub(y)).abs()));
    }
}

#[inline(always)]
fn strings<F: Lanes>(x: F) -> [[u8; 32]; MAX_LANES] {
    let limbs = x.to_limbs();
    let mut out = [[0; 32]; MAX_LANES];
    for (string, limbs) in out.iter_mut().zip(&limbs) {
        *string = bytes_of(limbs);
    }
    out
}

/// 1 where the string is below p, even and without its highest bit.
#[inline(always)]
fn is_canonical(encoding: &[u8; 32], limbs: &Limbs) -> u8 {
    let mut carry = (limbs[0] + 19) >> 51;
    for limb in &limbs[1..] {
        carry = (limb + carry) >> 51;
    }
    debug_assert!(limbs.iter().all(|&limb| limb <= LIMB_MASK));
    (1 - carry as u8) & (1 - (encoding[0] & 1)) & (1 - (encoding[31] >> 7))
}
