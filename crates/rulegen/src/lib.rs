//! rulegen
