//! The statistical judge against its published vectors and the properties it promises.

mod vectors;
