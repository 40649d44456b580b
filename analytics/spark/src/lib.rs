//! A client of Apache Spark: executes a statement through Spark Connect and returns its complete
//! result, or an error, but never a part of the result.
//!
//! # Why a separate client
//!
//! `apache-spark-connect-core` and `-proto` 4.2 need `protoc` and its include files wherever they
//! are built, and link tonic. They also take the end of a stream for the end of the result. A
//! server ends each stream after two minutes or 1 GiB, so that a longer statement has 0 rows and no
//! error there. This crate uses h2, which other crates link already, with the few messages that it
//! needs written out, and accepts a result only after `ResultComplete`.
//!
//! This crate knows no lake, figures or shards.

mod address;
mod arrow;
mod client;
mod grpc;
mod pace;
mod percent;
mod proto;
mod reply;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError};
pub use client::{Client, SparkError};
pub use pace::Pace;
pub use reply::Progress;
