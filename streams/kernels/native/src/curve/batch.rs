//! Joined buffers through the lanes of the back-end that fits the processor, on one thread or more.

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::digests::{Texts, id_digest};
use super::elligator::map_strings;
use super::field::{Lanes, MAX_LANES};
use super::group::{Point, encode_doubled};

#[cfg(target_arch = "x86_64")]
use super::ifma::Ifma;
use super::portable::Portable;
use super::scalar::Digits;

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
            Self::Ifma => "avx512ifma",
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

/// What becomes of each string of a buffer: a point of 32 bytes.
pub enum Work {
    /// A point times the scalar.
    Multiply(Digits),
    /// The point that 64 bytes map to.
    Map,
    /// Both, one after the other.
    MapAndMultiply(Digits),
}

impl Work {
    /// Bytes of a string.
    pub fn width(&self) -> usize {
        match self {
            Self::Multiply(_) => 32,
            Self::Map | Self::MapAndMultiply(_) => 64,
        }
    }
}

/// Work on all strings of `source`, into `out`. The index of the first point that is refused, if one is: no canonical
/// encoding, or an identity before or after a multiplication.
pub fn run(
    backend: Backend,
    work: &Work,
    source: &[u8],
    out: &mut [u8],
    threads: usize,
) -> Option<usize> {
    let chunks = source
        .chunks(work.width() * CHUNK)
        .zip(out.chunks_mut(32 * CHUNK));
    let refused = in_threads(
        chunks.collect(),
        threads,
        |(source, target)| match backend {
            // Sound: a back-end is chosen only where it is available.
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => unsafe { run_ifma(work, source, target) },
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => unsafe { run_avx2(work, source, target) },
            Backend::Portable => run_chunk::<Portable>(work, source, target),
        },
    );
    refused
        .into_iter()
        .enumerate()
        .find_map(|(chunk, place)| place.map(|place| CHUNK * chunk + place))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn run_ifma(work: &Work, source: &[u8], out: &mut [u8]) -> Option<usize> {
    run_chunk::<Ifma>(work, source, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2(work: &Work, source: &[u8], out: &mut [u8]) -> Option<usize> {
    run_chunk::<Avx2>(work, source, out)
}

#[inline(always)]
fn run_chunk<F: Lanes>(work: &Work, source: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut halves = Vec::with_capacity(CHUNK / F::LANES);
    let mut refused = None;
    for (group, strings) in source.chunks(work.width() * F::LANES).enumerate() {
        let (digits, point) = match work {
            Work::Multiply(digits) => {
                let (valid, point) = Point::<F>::decode(&padded(strings));
                for lane in 0..strings.len() / 32 {
                    if valid >> lane & 1 == 0 && refused.is_none() {
                        refused = Some(group * F::LANES + lane);
                    }
                }
                (digits, point)
            }
            Work::MapAndMultiply(digits) => (digits, map_strings(&padded(strings))),
            Work::Map => {
                put(
                    out,
                    group,
                    F::LANES,
                    &map_strings::<F>(&padded(strings)).encode(),
                );
                continue;
            }
        };
        halves.push(point.multiply(digits));
    }
    if let Work::Map = work {
        return None;
    }
    encode_doubled(&halves, |group, strings| {
        put(out, group, F::LANES, &strings)
    });
    let identity = out
        .chunks(32)
        .position(|string| string.iter().all(|&byte| byte == 0));
    [refused, identity].into_iter().flatten().min()
}

/// Put the strings of a group in their places; the last group may have fewer than lanes.
#[inline(always)]
fn put(out: &mut [u8], group: usize, lanes: usize, strings: &[[u8; 32]; MAX_LANES]) {
    for (target, string) in out[32 * lanes * group..]
        .chunks_mut(32)
        .zip(&strings[..lanes])
    {
        target.copy_from_slice(string);
    }
}

/// Digests of texts, as `id_digest` gives them.
pub fn digest_ids(prefix: &[u8], texts: &Texts, threads: usize) -> Vec<u8> {
    let mut out = vec![0; 64 * texts.count()];
    in_threads(
        out.chunks_mut(64 * CHUNK).enumerate().collect(),
        threads,
        |(chunk, target)| {
            for (place, digest) in target.chunks_exact_mut(64).enumerate() {
                digest.copy_from_slice(&id_digest(prefix, texts, CHUNK * chunk + place));
            }
        },
    );
    out
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
