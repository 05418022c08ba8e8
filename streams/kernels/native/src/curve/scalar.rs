//! A scalar of libsodium's as signed digits of its half modulo the group's order, without branches on it.

/// Digits from -8 to 7 (the highest: 0 to 2) to the base 16, the lowest first.
pub type Digits = [i8; 64];

/// The group's order, 2^252 + 27742317777372353535851937790883648493, in words, the lowest first.
const ORDER: [u64; 4] = [
    0x5812631a5cf5d3ed,
    0x14def9dea2f79cd6,
    0,
    0x1000000000000000,
];

/// Half the scalar modulo the order: the points are doubled once more when they are encoded. The highest bit of the
/// 32 little-endian bytes is dropped, as libsodium does.
pub fn half_digits(scalar: &[u8; 32]) -> Digits {
    let mut words = [0u64; 4];
    for (word, bytes) in words.iter_mut().zip(scalar.chunks_exact(8)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    }
    words[3] &= u64::MAX >> 1;
    // 2^255 is below 8 times the order.
    for shift in [2, 1, 0] {
        words = subtract_if_larger(words, shifted(ORDER, shift));
    }
    let odd = 0u64.wrapping_sub(words[0] & 1);
    let (words, _) = add(words, ORDER.map(|word| word & odd));
    digits(half(words))
}

/// Recode a number below 2^253.
fn digits(words: [u64; 4]) -> Digits {
    let mut digits = [0; 64];
    let mut carry = 0;
    for (place, digit) in digits.iter_mut().enumerate() {
        let nibble = ((words[place / 16] >> (4 * (place % 16))) & 15) as i8 + carry;
        carry = (nibble + 8) >> 4;
        *digit = nibble - (carry << 4);
    }
    digits
}

fn add(a: [u64; 4], b: [u64; 4]) -> ([u64; 4], u64) {
    let mut carry = 0;
    let mut out = [0; 4];
    for k in 0..4 {
        let sum = u128::from(a[k]) + u128::from(b[k]) + carry;
        out[k] = sum as u64;
        carry = sum >> 64;
    }
    (out, carry as u64)
}

fn shifted(a: [u64; 4], bits: u32) -> [u64; 4] {
    if bits == 0 {
        return a;
    }
    let over = 64 - bits;
    [
        a[0] << bits,
        a[1] << bits | a[0] >> over,
        a[2] << bits | a[1] >> over,
        a[3] << bits | a[2] >> over,
    ]
}

fn half(a: [u64; 4]) -> [u64; 4] {
    [
        a[0] >> 1 | a[1] << 63,
        a[1] >> 1 | a[2] << 63,
        a[2] >> 1 | a[3] << 63,
        a[3] >> 1,
    ]
}

fn subtract_if_larger(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    // a - b as a + not b + 1; the carry out says that a was not below b.
    let (plus_one, up) = add(a, [1, 0, 0, 0]);
    let (difference, carry) = add(plus_one, b.map(|word| !word));
    let keep = 0u64.wrapping_sub(1 - (up | carry));
    let mut out = difference;
    for k in 0..4 {
        out[k] ^= keep & (a[k] ^ difference[k]);
    }
    out
}
