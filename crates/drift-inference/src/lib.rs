//! drift-inference
