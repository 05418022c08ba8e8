//! The group ristretto255 (RFC 9496) on joined buffers, byte for byte what libsodium gives.

// Limbs go by their numbers, as in the formulas.
#![allow(clippy::needless_range_loop)]

use crate::{Refused, refuse};
use batch::Backend;
use scalar::half_digits;

pub use batch::Work;
pub use digests::Texts;
pub use scalar::Digits;

#[cfg(target_arch = "x86_64")]
mod avx2;
mod batch;
mod digests;
mod elligator;
mod field;
mod group;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;
mod scalar;
#[cfg(test)]
mod tests;

/// Bytes of a point.
pub const POINT: usize = 32;

/// Names of the back-ends for points that this processor can run, the one that is chosen first.
pub fn backends() -> Vec<&'static str> {
    available().map(Backend::name).collect()
}

fn available() -> impl Iterator<Item = Backend> {
    Backend::ALL
        .iter()
        .copied()
        .filter(|backend| backend.is_available())
}

/// A scalar of 32 bytes as the digits that `Work` takes.
pub fn digits_of(factor: &[u8]) -> Result<Digits, Refused> {
    match factor.try_into() {
        Ok(factor) => Ok(half_digits(factor)),
        Err(_) => refuse("a scalar has 32 bytes"),
    }
}

/// How many points the strings give.
pub fn count(work: &Work, source: &[u8]) -> Result<usize, Refused> {
    count_strings(source, work.width())
}

/// The points of all strings into `out`; or the index of the first that is refused: no canonical encoding, or an identity
/// before or after a multiplication.
pub fn run(
    work: &Work,
    source: &[u8],
    out: &mut [u8],
    threads: usize,
    backend: Option<&str>,
) -> Result<Option<usize>, Refused> {
    let Some(chosen) = available().find(|one| backend.is_none_or(|name| name == one.name())) else {
        return refuse(format!(
            "no back-end for points {backend:?} on this processor"
        ));
    };
    if out.len() != POINT * count(work, source)? {
        return refuse("the room does not fit the points");
    }
    Ok(batch::run(chosen, work, source, out, threads))
}

/// SHA-512(prefix || length in 8 bytes || text) of each text, joined.
pub fn digest_ids(prefix: &[u8], texts: &Texts, threads: usize) -> Vec<u8> {
    batch::digest_ids(prefix, texts, threads)
}

/// SHA-256(prefix || point) of each joined point, into `out`.
pub fn tag_points(points: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<(), Refused> {
    if out.len() != POINT * count_points(points)? {
        return refuse("the room does not fit the tags");
    }
    digests::tag_points(prefix, points, out);
    Ok(())
}

/// How many points these are.
pub fn count_points(points: &[u8]) -> Result<usize, Refused> {
    count_strings(points, POINT)
}

fn count_strings(joined: &[u8], width: usize) -> Result<usize, Refused> {
    if !joined.len().is_multiple_of(width) {
        return refuse(format!("{} bytes are no multiple of {width}", joined.len()));
    }
    Ok(joined.len() / width)
}
