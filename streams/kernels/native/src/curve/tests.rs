//! Each back-end's arithmetic against integers of plain words, at the edges of its limbs.

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::batch::Backend;
use super::field::*;
#[cfg(target_arch = "x86_64")]
use super::ifma::Ifma;
use super::portable::Portable;
use super::scalar::half_digits;

const M: u64 = LIMB_MASK;
const P: Limbs = [M - 18, M, M, M, M];

/// Numbers below 2^255 at which carries and foldings differ: 0, 1, p - 1, p, p + 1, 2^255 - 1, single full limbs.
fn edges() -> Vec<Limbs> {
    let mut edges = vec![
        [0; 5],
        [1, 0, 0, 0, 0],
        [M - 19, M, M, M, M],
        P,
        [M - 17, M, M, M, M],
        [M; 5],
    ];
    edges.extend([
        [2, 0, 0, 0, 0],
        [18, 0, 0, 0, 0],
        [19, 0, 0, 0, 0],
        [M - 18, M, M, M, M >> 1],
        SQRT_M1,
        D,
    ]);
    for limb in 0..5 {
        for value in [1, M, M - 1, 1 << 50] {
            let mut one = [0; 5];
            one[limb] = value;
            edges.push(one);
            let mut others = [M; 5];
            others[limb] = M - value;
            edges.push(others);
        }
    }
    edges
}

/// x modulo p, of 64-bit limbs that may be above 51 bits.
fn reduced(mut x: [u128; 5]) -> Limbs {
    for _ in 0..4 {
        for k in 0..5 {
            let carry = x[k] >> LIMB_BITS;
            x[k] &= u128::from(M);
            if k < 4 {
                x[k + 1] += carry
            } else {
                x[0] += 19 * carry
            }
        }
    }
    let limbs = x.map(|limb| limb as u64);
    let above = limbs[0] >= P[0] && limbs[1..].iter().all(|&limb| limb == M);
    if above {
        [limbs[0] - P[0], 0, 0, 0, 0]
    } else {
        limbs
    }
}

fn product(a: &Limbs, b: &Limbs) -> Limbs {
    let mut sum = [0u128; 5];
    for i in 0..5 {
        for j in 0..5 {
            let term = u128::from(a[i]) * u128::from(b[j]);
            sum[(i + j) % 5] += if i + j < 5 { term } else { 19 * term };
        }
    }
    reduced(sum)
}

fn sum(a: &Limbs, b: &Limbs) -> Limbs {
    reduced([0, 1, 2, 3, 4].map(|k| u128::from(a[k]) + u128::from(b[k])))
}

fn difference(a: &Limbs, b: &Limbs) -> Limbs {
    reduced([0, 1, 2, 3, 4].map(|k| u128::from(a[k]) + u128::from(2 * P[k]) - u128::from(b[k])))
}

/// The number in lane `lane`, others in the others.
fn in_lane<F: Lanes>(number: &Limbs, lane: usize) -> F {
    let mut all = [[3, 1, 4, 1, 5]; MAX_LANES];
    all[lane] = *number;
    F::from_limbs(&all)
}

fn arithmetic_is_that_of_integers<F: Lanes>() {
    for (index, a) in edges().iter().enumerate() {
        for (other, b) in edges().iter().enumerate() {
            let lane = (index + other) % F::LANES;
            let (x, y): (F, F) = (in_lane(a, lane), in_lane(b, lane));
            let of = |result: F| result.to_limbs()[lane];
            assert_eq!(of(x.mul(y)), product(a, b), "{a:x?} * {b:x?}");
            assert_eq!(of(x.add(y)), sum(a, b), "{a:x?} + {b:x?}");
            assert_eq!(of(x.sub(y)), difference(a, b), "{a:x?} - {b:x?}");
            assert_eq!(
                x.equals(y) >> lane & 1 == 1,
                sum(a, &[0; 5]) == sum(b, &[0; 5])
            );
            assert_eq!(of(F::select(1 << lane, x, y)), sum(a, &[0; 5]));
            assert_eq!(of(F::select(!(1 << lane), x, y)), sum(b, &[0; 5]));
            // Results of operations are factors again, and sums of products are as large as the curve makes them.
            let wide = F::wide_add(F::wide_add(x.mul_wide(y), x.mul_wide(y)), x.square_wide());
            let less = F::wide_add(y.square_wide(), x.mul_wide(y));
            let expected = difference(&sum(&product(a, b), &product(a, a)), &product(b, b));
            assert_eq!(of(F::carry(F::wide_sub(wide, less))), expected);
            let zero_less = F::carry(F::wide_sub(F::zero().square_wide(), less));
            assert_eq!(
                of(zero_less),
                difference(&[0; 5], &sum(&product(b, b), &product(a, b)))
            );
            let chained = x.sub(y).mul(x.add(y)).sub(x.square()).add(y.square());
            assert_eq!(of(chained), [0; 5]);
        }
        let lane = index % F::LANES;
        let x: F = in_lane(a, lane);
        let canonical = sum(a, &[0; 5]);
        assert_eq!(x.to_limbs()[lane], canonical);
        assert_eq!(x.square().to_limbs()[lane], product(a, a));
        assert_eq!(x.is_zero() >> lane & 1 == 1, canonical == [0; 5]);
        assert_eq!(u64::from(x.is_negative() >> lane & 1), canonical[0] & 1);
        let inverse = x.invert().mul(x).to_limbs()[lane];
        assert_eq!(
            inverse,
            if canonical == [0; 5] {
                [0; 5]
            } else {
                [1, 0, 0, 0, 0]
            }
        );
        let (square, root) = F::sqrt_ratio(x.square(), F::one());
        assert_eq!(square >> lane & 1, 1);
        assert_eq!(root.square().to_limbs()[lane], product(a, a));
        let (square, root) = F::sqrt_ratio(x.square().mul(F::splat(SQRT_M1)), F::one());
        assert_eq!(square >> lane & 1 == 1, canonical == [0; 5]);
        assert_eq!(
            root.square().to_limbs()[lane],
            difference(&[0; 5], &product(a, a))
        );
        assert_eq!(root.is_negative() >> lane & 1, 0);
    }
}

#[test]
fn portable_arithmetic_is_that_of_integers() {
    arithmetic_is_that_of_integers::<Portable>();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn avx2_arithmetic_is_that_of_integers() {
    if Backend::Avx2.is_available() {
        arithmetic_is_that_of_integers::<Avx2>();
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn ifma_arithmetic_is_that_of_integers() {
    if Backend::Ifma.is_available() {
        arithmetic_is_that_of_integers::<Ifma>();
    }
}

#[test]
fn constants_are_what_their_names_say() {
    let (one, minus_one) = ([1, 0, 0, 0, 0], difference(&[0; 5], &[1, 0, 0, 0, 0]));
    assert_eq!(product(&SQRT_M1, &SQRT_M1), minus_one);
    // d = -121665 / 121666.
    assert_eq!(
        product(&D, &[121666, 0, 0, 0, 0]),
        difference(&[0; 5], &[121665, 0, 0, 0, 0])
    );
    assert_eq!(sum(&D, &D), D2);
    let a_minus_d = difference(&minus_one, &D);
    assert_eq!(
        product(&product(&INVSQRT_A_MINUS_D, &INVSQRT_A_MINUS_D), &a_minus_d),
        one
    );
    let ad_minus_one = difference(&difference(&[0; 5], &D), &one);
    assert_eq!(
        product(&SQRT_AD_MINUS_ONE, &SQRT_AD_MINUS_ONE),
        ad_minus_one
    );
    assert_eq!(difference(&one, &product(&D, &D)), ONE_MINUS_D_SQ);
    assert_eq!(
        product(&difference(&D, &one), &difference(&D, &one)),
        D_MINUS_ONE_SQ
    );
}

#[test]
fn bytes_and_limbs_are_two_forms_of_one_number() {
    let bytes = core::array::from_fn(|k| (37 * k + 11) as u8 & if k == 31 { 127 } else { 255 });
    assert_eq!(bytes_of(&limbs_of(&bytes)), bytes);
    assert_eq!(limbs_of(&[255; 32]), [M; 5]);
    for limb in 0..5 {
        let mut one = [0; 5];
        one[limb] = 0x4_1234_5678_9abc;
        assert_eq!(limbs_of(&bytes_of(&one)), one);
    }
}

#[test]
fn twice_the_digits_are_the_scalar() {
    // Small numbers, even and odd: an odd one is halved with the order added.
    const ORDER: [u8; 16] = 0x14def9dea2f79cd65812631a5cf5d3ed_u128.to_le_bytes();
    for value in [0u8, 2, 14, 16, 18, 254] {
        let digits = half_digits(&core::array::from_fn(|k| if k == 0 { value } else { 0 }));
        let sum = digits
            .iter()
            .rev()
            .fold(0i64, |sum, &digit| 16 * sum + i64::from(digit));
        assert_eq!(2 * sum, i64::from(value));
    }
    // The order itself is 0, and so are its multiples below 2^255; the highest bit counts nothing.
    for multiple in 0..8u32 {
        let mut bytes = [0; 32];
        let mut carry = 0;
        for (k, byte) in bytes.iter_mut().enumerate() {
            let part = if k < 16 {
                ORDER[k]
            } else {
                if k == 31 { 16 } else { 0 }
            };
            let value = u32::from(part) * multiple + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        assert_eq!(half_digits(&bytes), [0; 64]);
        bytes[31] |= 128;
        assert_eq!(half_digits(&bytes), [0; 64]);
    }
    // Every digit is small enough for the table of eight multiples.
    for fill in [0x77, 0x78, 0x88, 0x87, 0xf8, 0xff] {
        assert!(
            half_digits(&[fill; 32])
                .iter()
                .all(|digit| (-8..8).contains(digit))
        );
    }
}
