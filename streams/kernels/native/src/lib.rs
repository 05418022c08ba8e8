//! Native arithmetic of Isthmus, bit for bit what the Python kernels beside it compute.

use pyo3::prelude::*;

mod curve;
mod modular;

/// Kernels in vectors, chosen for this processor at run time.
#[pymodule]
fn isthmus_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    curve::register(module)?;
    modular::register(module)
}
