//! What an IMAP server says in visits to a mailbox.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mailqos_probe::mailqos::fuzzing::imap_reply(bytes));
