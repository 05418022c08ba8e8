//! The module that Python imports: buffers and errors of Python around the arithmetic.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::Refused;

mod modulus;
mod points;

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> PyErr {
        PyValueError::new_err(refused.0)
    }
}

/// Kernels in vectors, chosen for this processor at run time.
#[pymodule]
fn isthmus_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    points::register(module)?;
    modulus::register(module)
}
