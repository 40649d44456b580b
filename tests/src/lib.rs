//! Embedded mail servers and helpers for the end-to-end tests, the benchmarks and the demonstration.

#![allow(clippy::expect_used)]

pub mod servers;
