//! telemetry-generator
