//! The Received fields of a mail.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mailqos_probe::mailqos::fuzzing::received(bytes));
