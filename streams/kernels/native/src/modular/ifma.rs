//! The products in AVX-512 with 52-bit multipliers: each vector holds one limb of eight numbers.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::MOST_LIMBS;
use super::montgomery::{LANES, LIMB_BITS, MASK, Root, Word};

/// out = a b / R modulo n^2, for digits to the base n; a shorter way where a and b are the same block.
///
/// # Safety
/// The processor must have avx512f and avx512ifma; all blocks have twice the root's length, which is 2 to `MOST_LIMBS`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub unsafe fn multiply(out: &mut [Word], a: &[Word], b: &[Word], root: &Root) {
    let length = root.limbs.len();
    assert!((2..=MOST_LIMBS).contains(&length));
    // Sound: a digit starts at 0 and at `length` of each block; words are aligned as vectors are.
    unsafe {
        let (mut sums, mut quotients) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let (sums, quotients) = (start_first(&mut sums, length), place_of(&mut quotients));
        let (a0, b0) = (vectors(a), vectors(b));
        let (a1, b1) = (a0.add(length), b0.add(length));
        let out = out.as_mut_ptr().cast::<__m512i>();
        add_products(sums, a0, b0, quotients, root);
        put(out, sums, length);
        start_second(sums, quotients, root);
        if a0 == b0 {
            let mut twice = MaybeUninit::uninit();
            let twice = place_of(&mut twice);
            double(twice, a1, length);
            add_products(sums, a0, twice, quotients, root);
        } else {
            add_two_products(sums, [a0, a1], [b1, b0], quotients, root);
        }
        put(out.add(length), sums, length);
    }
}

/// out = (l low + h high) / R modulo n^2, for the lower and the upper limbs of plain numbers.
///
/// # Safety
/// As above.
#[target_feature(enable = "avx512f,avx512ifma")]
pub unsafe fn load(out: &mut [Word], plain: &[Word], low: &[Word], high: &[Word], root: &Root) {
    let length = root.limbs.len();
    assert!((2..=MOST_LIMBS).contains(&length));
    // Sound as above.
    unsafe {
        let (mut sums, mut quotients) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let (sums, quotients) = (start_first(&mut sums, length), place_of(&mut quotients));
        let (l, low, high) = (vectors(plain), vectors(low), vectors(high));
        let out = out.as_mut_ptr().cast::<__m512i>();
        let parts = [l, l.add(length)];
        add_two_products(sums, parts, [low, high], quotients, root);
        put(out, sums, length);
        start_second(sums, quotients, root);
        add_two_products(
            sums,
            parts,
            [low.add(length), high.add(length)],
            quotients,
            root,
        );
        put(out.add(length), sums, length);
    }
}

/// Words from one row for each lane.
///
/// # Safety
/// The processor must have avx512f; all rows have the block's length.
#[target_feature(enable = "avx512f")]
pub unsafe fn gather(block: &mut [Word], rows: &[&[u64]; LANES]) {
    let out = block.as_mut_ptr().cast::<__m512i>();
    for start in (0..block.len()).step_by(LANES) {
        let count = LANES.min(block.len() - start);
        let mask = u8::MAX >> (LANES - count);
        // Sound: what the mask leaves out is not read.
        let columns =
            transpose(rows.map(|row| unsafe {
                _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(start).cast())
            }));
        for (place, column) in columns.into_iter().take(count).enumerate() {
            unsafe { _mm512_store_si512(out.add(start + place), column) };
        }
    }
}

/// Words to one row for each lane.
///
/// # Safety
/// As for `gather`.
#[target_feature(enable = "avx512f")]
pub unsafe fn scatter(block: &[Word], rows: &mut [&mut [u64]; LANES]) {
    for start in (0..block.len()).step_by(LANES) {
        let count = LANES.min(block.len() - start);
        let mask = u8::MAX >> (LANES - count);
        let words: [__m512i; LANES] = core::array::from_fn(|place| {
            let place = start + place.min(count - 1);
            unsafe { _mm512_load_si512(vectors(block).add(place)) }
        });
        for (row, numbers) in rows.iter_mut().zip(transpose(words)) {
            // Sound: what the mask leaves out is not written.
            unsafe { _mm512_mask_storeu_epi64(row.as_mut_ptr().add(start).cast(), mask, numbers) };
        }
    }
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    let even = [
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    ];
    let odd = [
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    ];
    let ([p, r, t, v], [q, s, u, w]) = (join_quarters(even), join_quarters(odd));
    [p, q, r, s, t, u, v, w]
}

/// Of pairs of columns 0, 2, 4 and 6 from two rows each the four columns whole.
#[inline]
#[target_feature(enable = "avx512f")]
fn join_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (outer_ab, inner_ab) = (
        _mm512_shuffle_i64x2::<0x88>(a, b),
        _mm512_shuffle_i64x2::<0xdd>(a, b),
    );
    let (outer_cd, inner_cd) = (
        _mm512_shuffle_i64x2::<0x88>(c, d),
        _mm512_shuffle_i64x2::<0xdd>(c, d),
    );
    [
        _mm512_shuffle_i64x2::<0x88>(outer_ab, outer_cd),
        _mm512_shuffle_i64x2::<0x88>(inner_ab, inner_cd),
        _mm512_shuffle_i64x2::<0xdd>(outer_ab, outer_cd),
        _mm512_shuffle_i64x2::<0xdd>(inner_ab, inner_cd),
    ]
}

fn vectors(words: &[Word]) -> *const __m512i {
    words.as_ptr().cast()
}

/// Room for a digit, of which as much is written as the root is long: clearing all of it would take longer than short
/// products.
type Room = MaybeUninit<[__m512i; MOST_LIMBS]>;

fn place_of(room: &mut Room) -> *mut __m512i {
    room.as_mut_ptr().cast()
}

/// The sums that the first digit begins with: none.
///
/// # Safety
/// The length is at most `MOST_LIMBS`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn start_first(room: &mut Room, length: usize) -> *mut __m512i {
    let sums = place_of(room);
    for place in 0..length {
        unsafe { sums.add(place).write(_mm512_setzero_si512()) };
    }
    sums
}

/// The sums that the second digit begins with: R - 1 - m + (1 - R), for the first one's quotients.
///
/// # Safety
/// Sums and quotients have room for the root's length.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn start_second(sums: *mut __m512i, quotients: *const __m512i, root: &Root) {
    let mask = _mm512_set1_epi64(MASK as i64);
    for (place, &offset) in root.offset.iter().enumerate() {
        unsafe {
            let rest = _mm512_sub_epi64(mask, *quotients.add(place));
            *sums.add(place) = _mm512_add_epi64(rest, _mm512_set1_epi64(offset as i64));
        }
    }
}

/// Sums with their carries taken on.
///
/// # Safety
/// Both have room for `length` vectors.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn put(out: *mut __m512i, sums: *const __m512i, length: usize) {
    let mask = _mm512_set1_epi64(MASK as i64);
    let mut carry = _mm512_setzero_si512();
    for place in 0..length {
        unsafe {
            let sum = _mm512_add_epi64(*sums.add(place), carry);
            _mm512_store_si512(out.add(place), _mm512_and_si512(sum, mask));
            carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(sum);
        }
    }
}

/// out = 2 a.
///
/// # Safety
/// Both have room for `length` vectors.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn double(out: *mut __m512i, a: *const __m512i, length: usize) {
    for place in 0..length {
        unsafe {
            let limb = _mm512_load_si512(a.add(place));
            *out.add(place) = _mm512_add_epi64(limb, limb);
        }
    }
    unsafe { put(out, out, length) }
}

/// sums = (sums + a b + m n) / R, with carries still to be taken on, and the limbs of m.
///
/// # Safety
/// The processor must have what is named; all have room for the root's length.
#[target_feature(enable = "avx512f,avx512ifma")]
unsafe fn add_products(
    sums: *mut __m512i,
    a: *const __m512i,
    b: *const __m512i,
    quotients: *mut __m512i,
    root: &Root,
) {
    let limbs = root.limbs.len();
    // Sound: every index is below `limbs`.
    unsafe {
        let n = root.limbs.as_ptr().cast::<i64>();
        let zero = _mm512_setzero_si512();
        let factor = _mm512_set1_epi64(root.factor as i64);
        let mut row = 0;
        // Two rows at a time: sums are read and written half as often.
        while row + 1 < limbs {
            let (b0, b1) = (
                _mm512_load_si512(b.add(row)),
                _mm512_load_si512(b.add(row + 1)),
            );
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
            *quotients.add(row) = q0;
            *quotients.add(row + 1) = q1;
            second = _mm512_madd52lo_epu64(second, n0, q1);
            let mut carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(second);
            let (mut al, mut nl) = (a0, n0);
            let (mut am, mut nm) = (a1, n1);
            for column in 2..limbs {
                let (ah, nh) = (
                    _mm512_load_si512(a.add(column)),
                    _mm512_set1_epi64(*n.add(column)),
                );
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
            *quotients.add(row) = quotient;
            first = _mm512_madd52lo_epu64(first, nl, quotient);
            let mut carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(first);
            for column in 1..limbs {
                let (ah, nh) = (
                    _mm512_load_si512(a.add(column)),
                    _mm512_set1_epi64(*n.add(column)),
                );
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
    }
}

/// sums = (sums + a c + b d + m n) / R, of two pairs of factors (a, b) and (c, d).
///
/// # Safety
/// As for `add_products`.
#[target_feature(enable = "avx512f,avx512ifma")]
unsafe fn add_two_products(
    sums: *mut __m512i,
    [a, b]: [*const __m512i; 2],
    [c, d]: [*const __m512i; 2],
    quotients: *mut __m512i,
    root: &Root,
) {
    let limbs = root.limbs.len();
    // Sound: every index is below `limbs`.
    unsafe {
        let n = root.limbs.as_ptr().cast::<i64>();
        let zero = _mm512_setzero_si512();
        let factor = _mm512_set1_epi64(root.factor as i64);
        for row in 0..limbs {
            let (x, y) = (_mm512_load_si512(c.add(row)), _mm512_load_si512(d.add(row)));
            let (mut al, mut bl) = (_mm512_load_si512(a), _mm512_load_si512(b));
            let mut nl = _mm512_set1_epi64(*n);
            let mut first = _mm512_madd52lo_epu64(*sums, al, x);
            first = _mm512_madd52lo_epu64(first, bl, y);
            let quotient = _mm512_madd52lo_epu64(zero, first, factor);
            *quotients.add(row) = quotient;
            first = _mm512_madd52lo_epu64(first, nl, quotient);
            let mut carry = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(first);
            for column in 1..limbs {
                let (ah, bh) = (
                    _mm512_load_si512(a.add(column)),
                    _mm512_load_si512(b.add(column)),
                );
                let nh = _mm512_set1_epi64(*n.add(column));
                // Two chains that do not wait for each other.
                let mut p = _mm512_madd52lo_epu64(*sums.add(column), ah, x);
                let mut q = _mm512_madd52hi_epu64(carry, al, x);
                carry = zero;
                p = _mm512_madd52lo_epu64(p, bh, y);
                q = _mm512_madd52hi_epu64(q, bl, y);
                p = _mm512_madd52lo_epu64(p, nh, quotient);
                q = _mm512_madd52hi_epu64(q, nl, quotient);
                *sums.add(column - 1) = _mm512_add_epi64(p, q);
                (al, bl, nl) = (ah, bh, nh);
            }
            let mut p = _mm512_madd52hi_epu64(carry, al, x);
            p = _mm512_madd52hi_epu64(p, bl, y);
            *sums.add(limbs - 1) = _mm512_madd52hi_epu64(p, nl, quotient);
        }
    }
}
