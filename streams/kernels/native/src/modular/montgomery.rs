//! Products modulo the square of an odd number n, eight at a time, in limbs of 52 bits (Gueron and Krasnov 2012).
//!
//! A number is held by its digits x0 and x1 to the base n, of L limbs each; R = 2^(52 L). Montgomery's reduction (1985)
//! of x0 y0 gives u and m below R with x0 y0 = R u - m n, an equation of integers. Hence
//!
//!     (x0 + x1 n) (y0 + y1 n) / R = u + n (x0 y1 + x1 y0 - m) / R   modulo n^2,
//!
//! where the second digit needs to be right modulo n only, so that it is a reduction of the same length. Five products of
//! half the length (four for a square) do what takes eight in Montgomery's form modulo n^2.
//!
//! Digits may exceed n: R is above 64 n, so that of digits below 4n come digits below 2n, without a subtraction (Walter
//! 1999): u < 16 n^2 / R + n, and the second digit is below (32 n^2 + R + n) / R + n.

/// Numbers in a block.
pub const LANES: usize = 8;
pub const LIMB_BITS: usize = 52;
pub const MASK: u64 = (1 << LIMB_BITS) - 1;

/// The same limb of eight numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Word(pub [u64; LANES]);

pub const ZERO: Word = Word([0; LANES]);

/// How products are computed; all give the same digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backend {
    Ifma,
    Avx2,
    Portable,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Backend::Ifma => "avx512ifma",
            Backend::Avx2 => "avx2",
            Backend::Portable => "portable",
        }
    }

    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
            }
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Ifma | Backend::Avx2 => false,
            Backend::Portable => true,
        }
    }
}

/// An odd number n, and what products modulo its square need. Digits and pairs of them have the lowest limb first.
pub struct Montgomery {
    /// Words of a block: the limbs of both digits.
    pub limbs: usize,
    /// Bytes of a number below n^2.
    pub bytes: usize,
    backend: Backend,
    root: Root,
    /// n^2, big-endian.
    pub modulus: Vec<u8>,
    square: Vec<u64>,
    /// R modulo n^2, and its square and cube.
    one: Vec<u64>,
    low: Vec<u64>,
    high: Vec<u64>,
}

/// n, and what reductions by it need.
pub struct Root {
    pub limbs: Vec<u64>,
    /// -1 / n modulo 2^52.
    pub factor: u64,
    /// 1 - R modulo n: what turns R - 1 - m into -m.
    pub offset: Vec<u64>,
}

impl Montgomery {
    /// None for an n that is even or below 2^32.
    pub fn new(root: &[u8], backend: Backend) -> Option<Montgomery> {
        let start = root.iter().position(|&byte| byte != 0)?;
        let root = &root[start..];
        let bits = 8 * root.len() - root[0].leading_zeros() as usize;
        if bits < 33 || root[root.len() - 1] & 1 == 0 {
            return None;
        }
        let length = (bits + 6).div_ceil(LIMB_BITS).max(2);
        let mut n = vec![0; length];
        read_limbs(root, &mut n);
        // Newton's iteration doubles the bits that are right; an odd number is its own inverse modulo 8.
        let mut inverse = n[0];
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(n[0].wrapping_mul(inverse)));
        }
        let mut power = vec![0; 2 * length];
        power[0] = 1;
        let mut powers = (0..3).map(|_| {
            for _ in 0..LIMB_BITS * length {
                double(&mut power, &n);
            }
            power.clone()
        });
        let (one, low, high) = (powers.next()?, powers.next()?, powers.next()?);
        let mut offset = n.clone();
        subtract(&mut offset, &one[..length]);
        add_small(&mut offset, 1);
        let square = times(&n, &n);
        let mut bytes = vec![0; 2 * root.len()];
        write_bytes(&square, &mut bytes);
        let modulus = bytes[usize::from(bytes[0] == 0)..].to_vec();
        Some(Montgomery {
            limbs: 2 * length,
            bytes: modulus.len(),
            backend,
            root: Root {
                limbs: n,
                factor: inverse.wrapping_neg() & MASK,
                offset,
            },
            modulus,
            square,
            one,
            low,
            high,
        })
    }

    /// A block with room for numbers of this modulus.
    pub fn block(&self) -> Vec<Word> {
        vec![ZERO; self.limbs]
    }

    /// One, in Montgomery's form, in every lane.
    pub fn ones(&self) -> Vec<Word> {
        in_all_lanes(&self.one)
    }

    /// out = a b / R modulo n^2.
    pub fn multiply(&self, out: &mut [Word], a: &[Word], b: &[Word]) {
        assert!(out.len() == self.limbs && a.len() == self.limbs && b.len() == self.limbs);
        match self.backend {
            #[cfg(target_arch = "x86_64")]
            // Sound: the back-end is chosen only where the processor has it, and the lengths were checked.
            Backend::Ifma => unsafe { super::ifma::multiply(out, a, b, &self.root) },
            #[cfg(target_arch = "x86_64")]
            // Sound as above.
            Backend::Avx2 => unsafe { super::avx2::multiply(out, a, b, &self.root) },
            _ => super::portable::multiply(out, a, b, &self.root),
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

    /// A block of one row of limbs for each lane.
    pub fn gather(&self, block: &mut [Word], rows: &[&[u64]; LANES]) {
        assert!(block.len() == self.limbs && rows.iter().all(|row| row.len() == self.limbs));
        match self.backend {
            #[cfg(target_arch = "x86_64")]
            // Sound: the processor has it, and the lengths were checked.
            Backend::Ifma => unsafe { super::ifma::gather(block, rows) },
            _ => {
                for (place, word) in block.iter_mut().enumerate() {
                    *word = Word(rows.map(|row| row[place]));
                }
            }
        }
    }

    /// A row of limbs for each lane of a block.
    pub fn scatter(&self, block: &[Word], rows: &mut [&mut [u64]; LANES]) {
        assert!(block.len() == self.limbs && rows.iter().all(|row| row.len() == self.limbs));
        match self.backend {
            #[cfg(target_arch = "x86_64")]
            // Sound as above.
            Backend::Ifma => unsafe { super::ifma::scatter(block, rows) },
            _ => {
                for (lane, row) in rows.iter_mut().enumerate() {
                    take_lane(row, block, lane);
                }
            }
        }
    }

    /// One, in Montgomery's form.
    pub fn unit(&self) -> &[u64] {
        &self.one
    }

    /// Up to eight numbers of big-endian bytes to Montgomery's form; one where there are none. Values up to the width
    /// are fine, whether reduced or not: v = l + h R becomes l R + h R^2, as R^2 l / R + R^3 h / R.
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
            put_lane(&mut plain, lane, &limbs);
        }
        let (low, high) = (in_all_lanes(&self.low), in_all_lanes(&self.high));
        let mut out = self.block();
        match self.backend {
            #[cfg(target_arch = "x86_64")]
            // Sound as above: all four blocks were made of this modulus's length.
            Backend::Ifma => unsafe {
                super::ifma::load(&mut out, &plain, &low, &high, &self.root)
            },
            #[cfg(target_arch = "x86_64")]
            // Sound as above.
            Backend::Avx2 => unsafe {
                super::avx2::load(&mut out, &plain, &low, &high, &self.root)
            },
            _ => super::portable::load(&mut out, &plain, &low, &high, &self.root),
        }
        out
    }

    /// Eight numbers below n^2, big-endian, out of Montgomery's form; lanes without a place are left out.
    pub fn store(&self, block: &[Word], places: &mut [Option<&mut [u8]>; LANES]) {
        let mut unit = self.block();
        unit[0] = Word([1; LANES]);
        let mut plain = self.block();
        self.multiply(&mut plain, block, &unit);
        let length = self.limbs / 2;
        let mut digits = vec![0; self.limbs];
        for (lane, place) in places.iter_mut().enumerate() {
            if let Some(bytes) = place {
                take_lane(&mut digits, &plain, lane);
                // Both digits are at most n + 1 now: the number is below 2 n^2.
                let mut number = times(&digits[length..], &self.root.limbs);
                add(&mut number, &digits[..length]);
                if is_at_least(&number, &self.square) {
                    subtract(&mut number, &self.square);
                }
                write_bytes(&number, bytes);
            }
        }
    }
}

/// The limbs of one lane.
pub fn take_lane(limbs: &mut [u64], block: &[Word], lane: usize) {
    for (limb, word) in limbs.iter_mut().zip(block) {
        *limb = word.0[lane];
    }
}

/// Limbs into one lane.
pub fn put_lane(block: &mut [Word], lane: usize, limbs: &[u64]) {
    for (word, &limb) in block.iter_mut().zip(limbs) {
        word.0[lane] = limb;
    }
}

fn in_all_lanes(limbs: &[u64]) -> Vec<Word> {
    limbs.iter().map(|&limb| Word([limb; LANES])).collect()
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

/// a b, of twice the length.
fn times(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut out = vec![0; a.len() + b.len()];
    for (start, &digit) in b.iter().enumerate() {
        let mut carry = 0;
        for (place, &limb) in out[start..].iter_mut().zip(a) {
            let sum = u128::from(*place) + u128::from(limb) * u128::from(digit) + carry;
            *place = sum as u64 & MASK;
            carry = sum >> LIMB_BITS;
        }
        out[start + a.len()] = carry as u64;
    }
    out
}

/// a += b, for a sum that fits.
fn add(a: &mut [u64], b: &[u64]) {
    let mut carry = 0;
    for (place, limb) in a.iter_mut().enumerate() {
        let sum = *limb + b.get(place).unwrap_or(&0) + carry;
        *limb = sum & MASK;
        carry = sum >> LIMB_BITS;
    }
}

fn add_small(a: &mut [u64], b: u64) {
    add(a, &[b]);
}

/// a = 2a modulo n, for a below n; whether n went out once.
fn double_digit(a: &mut [u64], n: &[u64], mut carry: u64) -> bool {
    for limb in a.iter_mut() {
        let twice = *limb << 1 | carry;
        carry = twice >> LIMB_BITS;
        *limb = twice & MASK;
    }
    let is_above = is_at_least(a, n);
    if is_above {
        subtract(a, n);
    }
    is_above
}

/// a = 2a modulo n^2, for digits a to the base n.
fn double(a: &mut [u64], n: &[u64]) {
    let (first, second) = a.split_at_mut(n.len());
    let carry = double_digit(first, n, 0);
    double_digit(second, n, carry.into());
}
