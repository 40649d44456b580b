//! Embedded mail servers and helpers for the end-to-end tests, and for the benchmarks in `bench`.

#![allow(clippy::expect_used)]

pub mod binaries;
#[cfg(unix)]
pub mod browser;
#[cfg(unix)]
pub mod clock;
pub mod console;
pub mod couriers;
#[cfg(unix)]
pub mod crash;
pub mod dialogue;
pub mod forms;
pub mod hooks;
mod http;
pub mod lake;
#[cfg(unix)]
pub mod mail_couriers;
pub mod notifications;
pub mod process;
pub mod proxy;
pub mod real;
pub mod secrets;
pub mod servers;
pub mod setting;
#[cfg(unix)]
pub mod shims;
pub mod simulation;
#[cfg(unix)]
pub mod spark;
pub mod token;
pub mod toml;

/// Locks a mutex, so that a test that panicked elsewhere doesn't hide its message behind a poisoned
/// lock.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
