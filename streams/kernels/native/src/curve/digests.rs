//! Digests before and after the group: identifiers to uniform strings, points to tags.

use sha2::{Digest, Sha256, Sha512};

/// Texts behind each other, and where each ends.
#[derive(Default)]
pub struct Texts {
    joined: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    pub fn push(&mut self, text: &str) {
        self.joined.extend_from_slice(text.as_bytes());
        self.ends.push(self.joined.len());
    }

    pub fn count(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.joined[start..self.ends[index]]
    }
}

/// SHA-512 of prefix, the text's length in 8 bytes (big-endian), and the text.
pub fn id_digest(prefix: &[u8], texts: &Texts, index: usize) -> [u8; 64] {
    let text = texts.get(index);
    let mut state = Sha512::new();
    state.update(prefix);
    state.update((text.len() as u64).to_be_bytes());
    state.update(text);
    state.finalize().into()
}

/// SHA-256 of prefix and point, for each joined 32-byte point.
pub fn tag_points(prefix: &[u8], points: &[u8], out: &mut [u8]) {
    let start = Sha256::new_with_prefix(prefix);
    for (point, tag) in points.chunks_exact(32).zip(out.chunks_exact_mut(32)) {
        tag.copy_from_slice(&start.clone().chain_update(point).finalize());
    }
}
