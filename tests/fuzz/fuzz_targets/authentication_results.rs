//! The verdicts in a mail's head.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mailqos_probe::mailqos::fuzzing::authentication_results(bytes));
