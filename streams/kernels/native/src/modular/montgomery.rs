//! Montgomery products of eight numbers at a time, in limbs of 52 bits (Montgomery 1985; Gueron and Krasnov 2012).
//!
//! Numbers are below 2n, and 2^(52 L) is above 4n: so a product is below 2n again without a subtraction (Walter 1999).

/// Numbers in a block.
pub const LANES: usize = 8;
pub const LIMB_BITS: usize = 52;
pub const MASK: u64 = (1 << LIMB_BITS) - 1;

/// The same limb of eight numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Word(pub [u64; LANES]);

pub const ZERO: Word = Word([0; LANES]);

/// How products are computed; all give the same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backend {
    Ifma,
    Portable,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Backend::Ifma => "avx512ifma",
            Backend::Portable => "portable",
        }
    }

    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Ifma => false,
            Backend::Portable => true,
        }
    }
}

/// An odd modulus and what its products need.
pub struct Montgomery {
    pub limbs: usize,
    pub bytes: usize,
    backend: Backend,
    modulus: Vec<u64>,
    /// -1 / n modulo 2^52.
    factor: u64,
    /// 2^(52 L) and its square, modulo n.
    one: Vec<u64>,
    square: Vec<u64>,
}

impl Montgomery {
    /// None for a modulus that is even or below 2^64.
    pub fn new(modulus: &[u8], backend: Backend) -> Option<Montgomery> {
        let start = modulus.iter().position(|&byte| byte != 0)?;
        let modulus = &modulus[start..];
        let bits = 8 * modulus.len() - modulus[0].leading_zeros() as usize;
        if bits < 65 || modulus[modulus.len() - 1] & 1 == 0 {
            return None;
        }
        let limbs = (bits + 2).div_ceil(LIMB_BITS);
        let mut n = vec![0; limbs];
        read_limbs(modulus, &mut n);
        // Newton's iteration doubles the bits that are right; an odd number is its own inverse modulo 8.
        let mut inverse = n[0];
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(n[0].wrapping_mul(inverse)));
        }
        let mut power = vec![0; limbs];
        power[0] = 1;
        for _ in 0..LIMB_BITS * limbs {
            double(&mut power, &n);
        }
        let one = power.clone();
        for _ in 0..LIMB_BITS * limbs {
            double(&mut power, &n);
        }
        Some(Montgomery {
            limbs,
            bytes: modulus.len(),
            backend,
            modulus: n,
            factor: inverse.wrapping_neg() & MASK,
            one,
            square: power,
        })
    }

    /// A block with room for numbers of this modulus.
    pub fn block(&self) -> Vec<Word> {
        vec![ZERO; self.limbs]
    }

    /// One, in Montgomery's form, in every lane.
    pub fn ones(&self) -> Vec<Word> {
        self.one.iter().map(|&limb| Word([limb; LANES])).collect()
    }

    /// out = a b / 2^(52 L) modulo n.
    pub fn multiply(&self, out: &mut [Word], a: &[Word], b: &[Word]) {
        assert!(out.len() == self.limbs && a.len() == self.limbs && b.len() == self.limbs);
        match self.backend {
            #[cfg(target_arch = "x86_64")]
            // Sound: the back-end is chosen only where the processor has it, and the lengths were checked.
            Backend::Ifma => unsafe {
                super::ifma::multiply(out, a, b, &self.modulus, self.factor)
            },
            _ => multiply_portable(out, a, b, &self.modulus, self.factor),
        }
    }

    /// a = a b, with a block to compute in.
    pub fn multiply_into(&self, a: &mut Vec<Word>, b: &[Word], scratch: &mut Vec<Word>) {
        self.multiply(scratch, a, b);
        std::mem::swap(a, scratch);
    }

    /// a = a^2, so many times.
    pub fn square_into(&self, a: &mut Vec<Word>, times: usize, scratch: &mut Vec<Word>) {
        for _ in 0..times {
            self.multiply(scratch, a, a);
            std::mem::swap(a, scratch);
        }
    }

    /// Up to eight numbers of big-endian bytes to Montgomery's form; one where there are none. Values up to the width
    /// are fine, whether reduced or not.
    pub fn load(&self, values: &[Option<&[u8]>; LANES]) -> Vec<Word> {
        let mut plain = self.block();
        let mut limbs = vec![0; self.limbs];
        for (lane, value) in values.iter().enumerate() {
            match value {
                Some(bytes) => read_limbs(bytes, &mut limbs),
                None => {
                    limbs.fill(0);
                    limbs[0] = 1;
                }
            }
            for (word, &limb) in plain.iter_mut().zip(&limbs) {
                word.0[lane] = limb;
            }
        }
        let square: Vec<Word> = self.square.iter().map(|&limb| Word([limb; LANES])).collect();
        let mut out = self.block();
        self.multiply(&mut out, &plain, &square);
        out
    }

    /// Eight numbers below n, big-endian, out of Montgomery's form; lanes without a place are left out.
    pub fn store(&self, block: &[Word], places: &mut [Option<&mut [u8]>; LANES]) {
        let mut unit = self.block();
        unit[0] = Word([1; LANES]);
        let mut plain = self.block();
        self.multiply(&mut plain, block, &unit);
        let mut limbs = vec![0; self.limbs];
        for (lane, place) in places.iter_mut().enumerate() {
            if let Some(bytes) = place {
                for (limb, word) in limbs.iter_mut().zip(&plain) {
                    *limb = word.0[lane];
                }
                if is_at_least(&limbs, &self.modulus) {
                    subtract(&mut limbs, &self.modulus);
                }
                write_bytes(&limbs, bytes);
            }
        }
    }
}

fn multiply_portable(out: &mut [Word], a: &[Word], b: &[Word], n: &[u64], factor: u64) {
    let limbs = n.len();
    let mut sums = vec![0u128; limbs + 1];
    for lane in 0..LANES {
        sums.fill(0);
        for row in b {
            let digit = row.0[lane] as u128;
            let first = sums[0] + a[0].0[lane] as u128 * digit;
            let quotient = ((first as u64).wrapping_mul(factor) & MASK) as u128;
            let mut carry = (first + n[0] as u128 * quotient) >> LIMB_BITS;
            for j in 1..limbs {
                let sum = sums[j] + a[j].0[lane] as u128 * digit + n[j] as u128 * quotient + carry;
                sums[j - 1] = sum & MASK as u128;
                carry = sum >> LIMB_BITS;
            }
            sums[limbs - 1] = carry;
        }
        // The last limb may hold a carry of its own; numbers below 2n leave room for it.
        for (word, &sum) in out.iter_mut().zip(&sums) {
            word.0[lane] = sum as u64;
        }
    }
}

/// Big-endian bytes in limbs, the lowest first. What is beyond the last limb must be zero.
pub fn read_limbs(bytes: &[u8], limbs: &mut [u64]) {
    // Little-endian with room for a word read at any byte.
    let mut little = vec![0; (limbs.len() * LIMB_BITS / 8 + 16).max(bytes.len() + 8)];
    for (place, &byte) in little.iter_mut().zip(bytes.iter().rev()) {
        *place = byte;
    }
    for (number, limb) in limbs.iter_mut().enumerate() {
        let (start, shift) = (number * LIMB_BITS / 8, number * LIMB_BITS % 8);
        let word = u64::from_le_bytes(little[start..start + 8].try_into().expect("eight bytes"));
        *limb = word >> shift & MASK;
    }
}

fn write_bytes(limbs: &[u64], bytes: &mut [u8]) {
    let mut little = vec![0u8; (limbs.len() * LIMB_BITS / 8 + 16).max(bytes.len())];
    for (number, &limb) in limbs.iter().enumerate() {
        let (start, shift) = (number * LIMB_BITS / 8, number * LIMB_BITS % 8);
        let word = u64::from_le_bytes(little[start..start + 8].try_into().expect("eight bytes"));
        little[start..start + 8].copy_from_slice(&(word | limb << shift).to_le_bytes());
    }
    for (byte, &place) in bytes.iter_mut().rev().zip(&little) {
        *byte = place;
    }
}

fn is_at_least(a: &[u64], b: &[u64]) -> bool {
    a.iter().rev().ge(b.iter().rev())
}

fn subtract(a: &mut [u64], b: &[u64]) {
    let mut borrow = 0;
    for (x, &y) in a.iter_mut().zip(b) {
        let difference = x.wrapping_sub(y).wrapping_sub(borrow);
        borrow = difference >> 63;
        *x = difference & MASK;
    }
}

/// a = 2a modulo n, for a below n.
fn double(a: &mut [u64], n: &[u64]) {
    let mut carry = 0;
    for limb in a.iter_mut() {
        let twice = *limb << 1 | carry;
        carry = twice >> LIMB_BITS;
        *limb = twice & MASK;
    }
    if is_at_least(a, n) {
        subtract(a, n);
    }
}
