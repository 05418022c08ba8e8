//! Native arithmetic of Isthmus, bit for bit what the Python kernels beside it compute.
//!
//! The arithmetic and its checks know nothing of Python: tests and fuzzers reach them without an interpreter.

use std::fmt;

pub mod curve;
pub mod modular;
#[cfg(feature = "python")]
mod python;

/// Why arguments are no arguments.
#[derive(Debug, PartialEq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn refuse<T, E: From<Refused>>(text: impl Into<String>) -> Result<T, E> {
    Err(Refused(text.into()).into())
}
