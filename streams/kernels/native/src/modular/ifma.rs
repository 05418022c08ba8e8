//! The product in AVX-512 with 52-bit multipliers: each vector holds one limb of eight numbers.

use core::arch::x86_64::*;

use super::montgomery::{LIMB_BITS, MASK, Word};

/// Most limbs: sums of four half products a round stay below 2^64.
const MOST_LIMBS: usize = 256;

/// # Safety
/// The processor must have avx512f and avx512ifma; all slices have the modulus's length, from 2 to `MOST_LIMBS`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub unsafe fn multiply(out: &mut [Word], a: &[Word], b: &[Word], n: &[u64], factor: u64) {
    let limbs = n.len();
    assert!((2..=MOST_LIMBS).contains(&limbs));
    // Sound: every index is below `limbs`, which is the length of all slices; words are aligned as vectors are.
    unsafe {
        let mut sums = [_mm512_setzero_si512(); MOST_LIMBS + 1];
        let sums = sums.as_mut_ptr();
        let a = a.as_ptr().cast::<__m512i>();
        let b = b.as_ptr().cast::<__m512i>();
        let out = out.as_mut_ptr().cast::<__m512i>();
        let n = n.as_ptr().cast::<i64>();
        let zero = _mm512_setzero_si512();
        let factor = _mm512_set1_epi64(factor as i64);
        let mut row = 0;
        // Two rows at a time: sums are read and written half as often.
        while row + 1 < limbs {
            let (b0, b1) = (_mm512_load_si512(b.add(row)), _mm512_load_si512(b.add(row + 1)));
            let (a0, a1) = (_mm512_load_si512(a), _mm512_load_si512(a.add(1)));
            let (n0, n1) = (_mm512_set1_epi64(*n), _mm512_set1_epi64(*n.add(1)));
            // Column 0: the first quotient clears it.
            let mut first = _mm512_madd52lo_epu64(*sums, a0, b0);
            let q0 = _mm512_madd52lo_epu64(zero, first, factor);
            first = _mm512_madd52lo_epu64(first, n0, q0);
            let carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(first);
            // Column 1: what the first row leaves there, then the second quotient clears it.
            let mut second = _mm512_add_epi64(*sums.add(1), carry);
            second = _mm512_madd52hi_epu64(second, a0, b0);
            second = _mm512_madd52hi_epu64(second, n0, q0);
            second = _mm512_madd52lo_epu64(second, a1, b0);
            second = _mm512_madd52lo_epu64(second, n1, q0);
            second = _mm512_madd52lo_epu64(second, a0, b1);
            let q1 = _mm512_madd52lo_epu64(zero, second, factor);
            second = _mm512_madd52lo_epu64(second, n0, q1);
            let mut carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(second);
            let (mut al, mut nl) = (a0, n0);
            let (mut am, mut nm) = (a1, n1);
            for column in 2..limbs {
                let (ah, nh) = (_mm512_load_si512(a.add(column)), _mm512_set1_epi64(*n.add(column)));
                // Two chains that do not wait for each other.
                let mut x = _mm512_madd52lo_epu64(*sums.add(column), ah, b0);
                let mut y = _mm512_madd52hi_epu64(carry, al, b1);
                carry = zero;
                x = _mm512_madd52hi_epu64(x, am, b0);
                y = _mm512_madd52hi_epu64(y, nl, q1);
                x = _mm512_madd52lo_epu64(x, nh, q0);
                y = _mm512_madd52lo_epu64(y, am, b1);
                x = _mm512_madd52hi_epu64(x, nm, q0);
                y = _mm512_madd52lo_epu64(y, nm, q1);
                *sums.add(column - 2) = _mm512_add_epi64(x, y);
                (al, nl, am, nm) = (am, nm, ah, nh);
            }
            // Columns `limbs` and `limbs + 1`, of which the sums so far have nothing.
            let mut x = _mm512_madd52hi_epu64(carry, am, b0);
            x = _mm512_madd52hi_epu64(x, nm, q0);
            x = _mm512_madd52hi_epu64(x, al, b1);
            x = _mm512_madd52hi_epu64(x, nl, q1);
            x = _mm512_madd52lo_epu64(x, am, b1);
            *sums.add(limbs - 2) = _mm512_madd52lo_epu64(x, nm, q1);
            let y = _mm512_madd52hi_epu64(zero, am, b1);
            *sums.add(limbs - 1) = _mm512_madd52hi_epu64(y, nm, q1);
            row += 2;
        }
        if row < limbs {
            let digit = _mm512_load_si512(b.add(row));
            let mut al = _mm512_load_si512(a);
            let mut nl = _mm512_set1_epi64(*n);
            let mut first = _mm512_madd52lo_epu64(*sums, al, digit);
            let quotient = _mm512_madd52lo_epu64(zero, first, factor);
            first = _mm512_madd52lo_epu64(first, nl, quotient);
            let mut carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(first);
            for column in 1..limbs {
                let (ah, nh) = (_mm512_load_si512(a.add(column)), _mm512_set1_epi64(*n.add(column)));
                let mut x = _mm512_madd52lo_epu64(*sums.add(column), ah, digit);
                let mut y = _mm512_madd52hi_epu64(carry, al, digit);
                carry = zero;
                x = _mm512_madd52lo_epu64(x, nh, quotient);
                y = _mm512_madd52hi_epu64(y, nl, quotient);
                *sums.add(column - 1) = _mm512_add_epi64(x, y);
                (al, nl) = (ah, nh);
            }
            let y = _mm512_madd52hi_epu64(carry, al, digit);
            *sums.add(limbs - 1) = _mm512_madd52hi_epu64(y, nl, quotient);
        }
        let mask = _mm512_set1_epi64(MASK as i64);
        let mut carry = zero;
        for column in 0..limbs {
            let sum = _mm512_add_epi64(*sums.add(column), carry);
            _mm512_store_si512(out.add(column), _mm512_and_si512(sum, mask));
            carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(sum);
        }
    }
}
