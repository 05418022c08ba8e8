//! Joined buffers through the lanes of the back-end that fits the processor, on one thread or more.

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::elligator::hash_lanes;
use super::field::{Lanes, MAX_LANES};
use super::group::{Point, encode_doubled};

#[cfg(target_arch = "x86_64")]
use super::ifma::Ifma;
use super::portable::Portable;
use super::scalar::{Digits, half_digits};

/// Points that share one inversion; their state takes a megabyte, which fits a core's second cache.
const CHUNK: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backend {
    #[cfg(target_arch = "x86_64")]
    Ifma,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Backend {
    /// The fastest first.
    pub const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Ifma,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        Self::Portable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => "ifma",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512ifma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Portable => true,
        }
    }
}

/// Multiply each point of `points` by one scalar into `out`; the index of the first that is refused, if one is: no
/// canonical encoding, or an identity before or after.
pub fn multiply(
    backend: Backend,
    points: &[u8],
    scalar: &[u8; 32],
    out: &mut [u8],
    threads: usize,
) -> Option<usize> {
    let digits = half_digits(scalar);
    let chunks = points.chunks(32 * CHUNK).zip(out.chunks_mut(32 * CHUNK));
    let refused = in_threads(
        chunks.collect(),
        threads,
        |(source, target)| match backend {
            // Sound: a back-end is chosen only where it is available.
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => unsafe { multiply_ifma(source, &digits, target) },
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => unsafe { multiply_avx2(source, &digits, target) },
            Backend::Portable => multiply_chunk::<Portable>(source, &digits, target),
        },
    );
    refused
        .into_iter()
        .enumerate()
        .find_map(|(chunk, place)| place.map(|place| CHUNK * chunk + place))
}

/// Map each 64-byte string of `strings` to a point in `out`.
pub fn hash(backend: Backend, strings: &[u8], out: &mut [u8], threads: usize) {
    let chunks = strings.chunks(64 * CHUNK).zip(out.chunks_mut(32 * CHUNK));
    in_threads(
        chunks.collect(),
        threads,
        |(source, target)| match backend {
            // Sound: as above.
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => unsafe { hash_ifma(source, target) },
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => unsafe { hash_avx2(source, target) },
            Backend::Portable => hash_chunk::<Portable>(source, target),
        },
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn multiply_ifma(points: &[u8], digits: &Digits, out: &mut [u8]) -> Option<usize> {
    multiply_chunk::<Ifma>(points, digits, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn hash_ifma(strings: &[u8], out: &mut [u8]) {
    hash_chunk::<Ifma>(strings, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_avx2(points: &[u8], digits: &Digits, out: &mut [u8]) -> Option<usize> {
    multiply_chunk::<Avx2>(points, digits, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn hash_avx2(strings: &[u8], out: &mut [u8]) {
    hash_chunk::<Avx2>(strings, out);
}

#[inline(always)]
fn multiply_chunk<F: Lanes>(points: &[u8], digits: &Digits, out: &mut [u8]) -> Option<usize> {
    let mut halves = Vec::with_capacity(CHUNK / F::LANES);
    let mut refused = None;
    for (group, source) in points.chunks(32 * F::LANES).enumerate() {
        let (valid, point) = Point::<F>::decode(&padded(source));
        for lane in 0..source.len() / 32 {
            if valid >> lane & 1 == 0 && refused.is_none() {
                refused = Some(group * F::LANES + lane);
            }
        }
        halves.push(point.multiply(digits));
    }
    encode_doubled(&halves, |group, strings| {
        for (lane, target) in out[32 * F::LANES * group..]
            .chunks_mut(32)
            .enumerate()
            .take(F::LANES)
        {
            target.copy_from_slice(&strings[lane]);
        }
    });
    let identity = out
        .chunks(32)
        .position(|string| string.iter().all(|&byte| byte == 0));
    [refused, identity].into_iter().flatten().min()
}

#[inline(always)]
fn hash_chunk<F: Lanes>(strings: &[u8], out: &mut [u8]) {
    for (source, target) in strings
        .chunks(64 * F::LANES)
        .zip(out.chunks_mut(32 * F::LANES))
    {
        let encodings = hash_lanes::<F>(&padded(source));
        for (string, encoding) in target.chunks_mut(32).zip(&encodings) {
            string.copy_from_slice(encoding);
        }
    }
}

/// The strings of a group; lanes without one are zero.
#[inline(always)]
fn padded<const N: usize>(source: &[u8]) -> [[u8; N]; MAX_LANES] {
    let mut out = [[0; N]; MAX_LANES];
    for (string, bytes) in out.iter_mut().zip(source.chunks_exact(N)) {
        string.copy_from_slice(bytes);
    }
    out
}

/// Apply `work` to each item, in order, on so many threads; the results in order.
fn in_threads<T: Send, R: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let share = items.len().div_ceil(threads.max(1)).max(1);
    if share >= items.len() {
        return items.into_iter().map(work).collect();
    }
    let mut shares: Vec<Vec<T>> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        if index % share == 0 {
            shares.push(Vec::with_capacity(share));
        }
        shares[index / share].push(item);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>()))
            .collect();
        // A panic in a thread goes on here, as it would without threads.
        running
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|e| std::panic::resume_unwind(e))
            })
            .collect()
    })
}
