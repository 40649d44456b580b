//! The fuzz targets under libFuzzer: the environment selects one, and the arguments are
//! libFuzzer's.
//!
//! ```text
//! MAILQOS_FUZZ=imap_reply mailqos-fuzz corpus tests/fuzz/seeds/imap_reply -max_total_time=60
//! ```

#![no_main]

use std::sync::LazyLock;

use mailqos_fuzz::{Target, targets};

/// The fuzzed function.
static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("MAILQOS_FUZZ").unwrap_or_default();
    let found = targets().into_iter().find(|(known, _)| *known == name);
    let Some((_, target)) = found else {
        let names: Vec<&str> = targets().iter().map(|(name, _)| *name).collect();
        eprintln!("MAILQOS_FUZZ={name:?} names no target; there are {}", names.join(" "));
        std::process::exit(2);
    };
    target
});

libfuzzer_sys::fuzz_target!(
    init: {
        // libFuzzer's hook ends the process at any panic, but some are caught, because foreign
        // decoders can't be trusted.
        drop(std::panic::take_hook());
        LazyLock::force(&TARGET);
    },
    |bytes: &[u8]| (*TARGET)(bytes)
);
