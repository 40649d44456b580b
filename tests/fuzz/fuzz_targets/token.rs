//! A mail in which a token is looked for.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mailqos_probe::mailqos::fuzzing::token(bytes));
