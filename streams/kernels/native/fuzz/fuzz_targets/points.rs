//! Every back-end's points against those of curve25519-dalek, whatever the bytes are.

#![no_main]

use arbitrary::Arbitrary;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use isthmus_native::curve::{
    POINT, Texts, Work, backends, count, digest_ids, digits_of, run, tag_points,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Place {
    /// Most are no encoding.
    Any([u8; 32]),
    /// The point that a string maps to, and one bit of it turned over if that is below 256.
    Mapped([u8; 8], u16),
}

#[derive(Arbitrary, Debug)]
enum Input {
    Multiply(Vec<Place>, [u8; 32]),
    Map(Vec<[u8; 9]>, Option<[u8; 32]>),
    Texts(Vec<String>, Vec<u8>),
    /// Buffers and scalars whose lengths may not fit.
    Ragged {
        points: Vec<[u8; 32]>,
        is_cut: bool,
        scalar: Vec<u8>,
        is_scalar: bool,
        room: u8,
    },
}

/// Strings of 64 bytes whose end, and thus the second half's mapping, follows from the input too.
fn string(seed: &[u8]) -> [u8; 64] {
    std::array::from_fn(|k| seed[k % seed.len()].wrapping_mul(k as u8 | 1))
}

fn scalar(mut bytes: [u8; 32]) -> Scalar {
    bytes[31] &= 127;
    Scalar::from_bytes_mod_order(bytes)
}

/// The points' encodings, or the first that is an identity or none at all.
fn encode(points: &[Option<RistrettoPoint>]) -> Result<Vec<u8>, usize> {
    match points
        .iter()
        .position(|point| point.is_none_or(|point| point.is_identity()))
    {
        Some(index) => Err(index),
        None => Ok(points
            .iter()
            .flatten()
            .flat_map(|point| point.compress().0)
            .collect()),
    }
}

fn check(work: &Work, source: &[u8], expected: Result<Vec<u8>, usize>) {
    for backend in backends() {
        for threads in [1, 3] {
            let mut out = vec![0; POINT * count(work, source).expect("whole strings")];
            let refused =
                run(work, source, &mut out, threads, Some(backend)).expect("room that fits");
            match &expected {
                Ok(points) => assert_eq!((refused, &out), (None, points), "{backend}"),
                Err(index) => assert_eq!(refused, Some(*index), "{backend}"),
            }
        }
    }
}

fuzz_target!(|input: Input| {
    match input {
        Input::Multiply(places, factor) => {
            let encodings: Vec<[u8; 32]> = places
                .iter()
                .map(|place| match place {
                    Place::Any(bytes) => *bytes,
                    Place::Mapped(seed, bit) => {
                        let mut bytes = RistrettoPoint::from_uniform_bytes(&string(seed))
                            .compress()
                            .0;
                        if *bit < 256 {
                            bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
                        }
                        bytes
                    }
                })
                .collect();
            let products: Vec<Option<RistrettoPoint>> = encodings
                .iter()
                .map(|bytes| {
                    let point = CompressedRistretto(*bytes).decompress()?;
                    (!point.is_identity()).then(|| point * scalar(factor))
                })
                .collect();
            let work = Work::Multiply(digits_of(&factor).expect("32 bytes"));
            check(&work, &encodings.concat(), encode(&products));
        }
        Input::Map(seeds, factor) => {
            let strings: Vec<[u8; 64]> = seeds.iter().map(|seed| string(seed)).collect();
            let points = strings.iter().map(RistrettoPoint::from_uniform_bytes);
            match factor {
                None => {
                    let expected = points.flat_map(|point| point.compress().0).collect();
                    check(&Work::Map, &strings.concat(), Ok(expected));
                }
                Some(factor) => {
                    let products: Vec<_> =
                        points.map(|point| Some(point * scalar(factor))).collect();
                    let work = Work::MapAndMultiply(digits_of(&factor).expect("32 bytes"));
                    check(&work, &strings.concat(), encode(&products));
                }
            }
        }
        Input::Texts(texts, prefix) => {
            let mut joined = Texts::default();
            texts.iter().for_each(|text| joined.push(text));
            let digests = digest_ids(&prefix, &joined, 1);
            assert_eq!(digests.len(), 64 * texts.len());
            assert_eq!(digests, digest_ids(&prefix, &joined, 4));
        }
        Input::Ragged {
            points,
            is_cut,
            scalar: mut factor,
            is_scalar,
            room,
        } => {
            let mut source = points.concat();
            if is_cut {
                source.pop();
            }
            if is_scalar {
                factor.resize(32, 0);
            }
            let mut out = vec![0; POINT * usize::from(room % 4) + usize::from(room / 128)];
            let fits = source.len().is_multiple_of(POINT) && out.len() == source.len();
            assert_eq!(tag_points(&source, &factor, &mut out).is_ok(), fits);
            let Ok(digits) = digits_of(&factor) else {
                assert_ne!(factor.len(), 32);
                return;
            };
            for work in [
                Work::Multiply(digits),
                Work::Map,
                Work::MapAndMultiply(digits),
            ] {
                let fits = count(&work, &source).is_ok_and(|count| out.len() == POINT * count);
                assert_eq!(run(&work, &source, &mut out, 2, None).is_ok(), fits);
                assert!(run(&work, &source, &mut out, 2, Some("abacus")).is_err());
            }
        }
    }
});
