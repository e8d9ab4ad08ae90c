//! What a decision asks for, as data.
