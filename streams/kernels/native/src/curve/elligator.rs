//! Uniform strings to points: RFC 9496, section 4.3.4.

use super::field::{
    D, D_MINUS_ONE_SQ, Lanes, MAX_LANES, ONE_MINUS_D_SQ, SQRT_AD_MINUS_ONE, SQRT_M1, limbs_of,
};
use super::group::Point;

/// The points that the 64-byte strings map to, lane by lane.
#[inline(always)]
pub fn map_strings<F: Lanes>(strings: &[[u8; 64]; MAX_LANES]) -> Point<F> {
    map(halves::<F>(strings, 0)).add_point(&map(halves::<F>(strings, 32)))
}

/// 32 bytes of each string from `start` on; the highest bit is dropped.
#[inline(always)]
fn halves<F: Lanes>(strings: &[[u8; 64]; MAX_LANES], start: usize) -> F {
    let mut limbs = [[0; 5]; MAX_LANES];
    for (target, string) in limbs.iter_mut().zip(strings) {
        let mut half = [0; 32];
        half.copy_from_slice(&string[start..start + 32]);
        *target = limbs_of(&half);
    }
    F::from_limbs(&limbs)
}

/// MAP: Elligator 2 on the Jacobi quartic.
#[inline(always)]
fn map<F: Lanes>(t: F) -> Point<F> {
    let one = F::one();
    let d = F::splat(D);
    let r = F::splat(SQRT_M1).mul(t.square());
    let u = r.add(one).mul(F::splat(ONE_MINUS_D_SQ));
    let v = F::zero().sub(one.add(r.mul(d))).mul(r.add(d));
    let (square, root) = F::sqrt_ratio(u, v);
    let s = F::select(square, root, root.mul(t).abs().neg());
    let c = F::select(square, one.neg(), r);
    let n = c.mul(r.sub(one)).mul(F::splat(D_MINUS_ONE_SQ)).sub(v);
    let w0 = s.add(s).mul(v);
    let w1 = n.mul(F::splat(SQRT_AD_MINUS_ONE));
    let ss = s.square();
    let w2 = one.sub(ss);
    let w3 = one.add(ss);
    Point {
        x: w0.mul(w3),
        y: w2.mul(w1),
        z: w1.mul(w3),
        t: w0.mul(w2),
    }
}
