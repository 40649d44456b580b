//! Benchmarks, the demonstration, and runs that inject faults and count losses: everything that
//! takes too long for a test, or prints figures instead of pass or fail. Each program in `src/bin`
//! explains itself with `--help`.

#![allow(clippy::expect_used)]

#[cfg(unix)]
pub mod measure;
