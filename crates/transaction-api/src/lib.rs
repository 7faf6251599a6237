//! transaction-api
