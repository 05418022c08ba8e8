//! Integers modulo p = 2^255 - 19 in lanes: what each back-end provides, and the exponentiations over it.
//!
//! No branch and no address depends on a value. Sources: RFC 9496 (SQRT_RATIO_M1), Bernstein 2006 (Curve25519).

/// Bits of a limb in the form that back-ends exchange: five limbs of 51 bits, the lowest first.
pub const LIMB_BITS: u32 = 51;
pub const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// An integer below 2^255 in five limbs of 51 bits; it need not be below p.
pub type Limbs = [u64; 5];

/// The most lanes that a back-end has.
pub const MAX_LANES: usize = 8;

/// One bit a lane; bits above the lanes mean nothing.
pub type Mask = u8;

/// A mask of all lanes where `bit` is 1, of none where it is 0.
#[inline(always)]
pub fn all_lanes(bit: u8) -> Mask {
    0u8.wrapping_sub(bit)
}

/// One field element a lane, reduced enough for any operation here.
pub trait Lanes: Copy {
    const LANES: usize;

    /// A product, or a sum of few of them, before its carries. `carry` takes what `wide_add` and `wide_sub` make of
    /// at most three products on the left and two on the right.
    type Wide: Copy;

    /// The same element in each lane.
    fn splat(limbs: Limbs) -> Self;
    fn from_limbs(limbs: &[Limbs; MAX_LANES]) -> Self;
    /// The only form below p. Lanes that the back-end does not have are zero.
    fn to_limbs(self) -> [Limbs; MAX_LANES];

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul_wide(self, other: Self) -> Self::Wide;
    fn square_wide(self) -> Self::Wide;
    fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// `b` is a product or the sum of two.
    fn wide_sub(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn carry(wide: Self::Wide) -> Self;

    /// `a` in the lanes of the mask, `b` in the others.
    fn select(mask: Mask, a: Self, b: Self) -> Self;
    /// Lanes whose form below p is odd (RFC 9496, IS_NEGATIVE).
    fn is_negative(self) -> Mask;
    fn is_zero(self) -> Mask;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::carry(self.mul_wide(other))
    }

    #[inline(always)]
    fn square(self) -> Self {
        Self::carry(self.square_wide())
    }

    #[inline(always)]
    fn zero() -> Self {
        Self::splat([0; 5])
    }

    #[inline(always)]
    fn one() -> Self {
        Self::splat([1, 0, 0, 0, 0])
    }

    #[inline(always)]
    fn neg(self) -> Self {
        Self::zero().sub(self)
    }

    #[inline(always)]
    fn equals(self, other: Self) -> Mask {
        self.sub(other).is_zero()
    }

    /// The negation in the lanes of the mask.
    #[inline(always)]
    fn negate_where(self, mask: Mask) -> Self {
        Self::select(mask, self.neg(), self)
    }

    /// The one of x and -x that is not negative (RFC 9496, CT_ABS).
    #[inline(always)]
    fn abs(self) -> Self {
        self.negate_where(self.is_negative())
    }

    /// x^(2^n).
    #[inline(always)]
    fn square_times(self, n: u32) -> Self {
        let mut x = self;
        for _ in 0..n {
            x = x.square();
        }
        x
    }

    /// (x^(2^250 - 1), x^11), the common part of the two exponentiations below.
    #[inline(always)]
    fn power_250(self) -> (Self, Self) {
        let x2 = self.square();
        let x9 = x2.square_times(2).mul(self);
        let x11 = x9.mul(x2);
        let ones5 = x11.square().mul(x9);
        let ones10 = ones5.square_times(5).mul(ones5);
        let ones20 = ones10.square_times(10).mul(ones10);
        let ones40 = ones20.square_times(20).mul(ones20);
        let ones50 = ones40.square_times(10).mul(ones10);
        let ones100 = ones50.square_times(50).mul(ones50);
        let ones200 = ones100.square_times(100).mul(ones100);
        (ones200.square_times(50).mul(ones50), x11)
    }

    /// x^(p - 2): the inverse, and 0 of 0.
    #[inline(always)]
    fn invert(self) -> Self {
        let (ones250, x11) = self.power_250();
        ones250.square_times(5).mul(x11)
    }

    /// x^((p - 5) / 8), as a function of its own: its loops are long, and a square root is taken in four places.
    fn power_sqrt(self) -> Self;

    /// x^((p - 5) / 8) = x^(2^252 - 3).
    #[inline(always)]
    fn power_252(self) -> Self {
        let (ones250, _) = self.power_250();
        ones250.square_times(2).mul(self)
    }

    /// SQRT_RATIO_M1 of RFC 9496, section 4.2: lanes where u/v is a square, and the root of u/v, or of i u/v there
    /// where it is none, that is not negative. 0 where u or v is 0.
    #[inline(always)]
    fn sqrt_ratio(u: Self, v: Self) -> (Mask, Self) {
        let i = Self::splat(SQRT_M1);
        let v3 = v.square().mul(v);
        let v7 = v3.square().mul(v);
        let root = u.mul(v3).mul(u.mul(v7).power_sqrt());
        let check = v.mul(root.square());
        let correct = check.equals(u);
        let minus_u = u.neg();
        let flipped = check.equals(minus_u);
        let flipped_i = check.equals(minus_u.mul(i));
        let turned = Self::select(flipped | flipped_i, root.mul(i), root);
        (correct | flipped, turned.abs())
    }
}

/// Numbers of RFC 9496, section 4.1, in limbs.
pub const SQRT_M1: Limbs = [
    0x61b274a0ea0b0,
    0xd5a5fc8f189d,
    0x7ef5e9cbd0c60,
    0x78595a6804c9e,
    0x2b8324804fc1d,
];
pub const D: Limbs = [
    0x34dca135978a3,
    0x1a8283b156ebd,
    0x5e7a26001c029,
    0x739c663a03cbb,
    0x52036cee2b6ff,
];
/// 2d, which the addition of two points uses.
pub const D2: Limbs = [
    0x69b9426b2f159,
    0x35050762add7a,
    0x3cf44c0038052,
    0x6738cc7407977,
    0x2406d9dc56dff,
];
pub const INVSQRT_A_MINUS_D: Limbs = [
    0xfdaa805d40ea,
    0x2eb482e57d339,
    0x7610274bc58,
    0x6510b613dc8ff,
    0x786c8905cfaff,
];
pub const SQRT_AD_MINUS_ONE: Limbs = [
    0x7f6a0497b2e1b,
    0x1836f0a97afd2,
    0x7d747f6be7638,
    0x456079e7e6498,
    0x376931bf2b834,
];
pub const ONE_MINUS_D_SQ: Limbs = [
    0x409c1945fc176,
    0x719abc6a1fc4f,
    0x1c37f90b20684,
    0x6bccca55eedf,
    0x29072a8b2b3e,
];
pub const D_MINUS_ONE_SQ: Limbs = [
    0x55aaa44ed4d20,
    0x59603c3332635,
    0x26d3baf4a7928,
    0x120a66e6997a9,
    0x5968b37af66c2,
];

/// The low 255 bits of 32 bytes, little-endian.
#[inline(always)]
pub fn limbs_of(bytes: &[u8; 32]) -> Limbs {
    let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
    [
        word(0) & LIMB_MASK,
        (word(6) >> 3) & LIMB_MASK,
        (word(12) >> 6) & LIMB_MASK,
        (word(19) >> 1) & LIMB_MASK,
        (word(24) >> 12) & LIMB_MASK,
    ]
}

/// 32 bytes, little-endian, of limbs below 2^51.
#[inline(always)]
pub fn bytes_of(limbs: &Limbs) -> [u8; 32] {
    let words = [
        limbs[0] | limbs[1] << 51,
        limbs[1] >> 13 | limbs[2] << 38,
        limbs[2] >> 26 | limbs[3] << 25,
        limbs[3] >> 39 | limbs[4] << 12,
    ];
    let mut bytes = [0; 32];
    for (target, word) in bytes.chunks_exact_mut(8).zip(words) {
        target.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
