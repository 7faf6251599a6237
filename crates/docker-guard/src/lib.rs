//! docker-guard
