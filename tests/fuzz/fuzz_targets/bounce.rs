//! A mail that may be a delivery status notification.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mailqos_probe::mailqos::fuzzing::bounce(bytes));
