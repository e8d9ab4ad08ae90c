//! The statistical judge against its published vectors and the properties it promises.

mod exactness;
mod hostile;
mod random;
mod simulation;
mod vectors;
