//! Mail providers with known servers, for `--preset`.

pub(super) use mailqos_discovery::providers::{PROVIDERS, Provider, Tokens};

/// Word for a server without a preset.
const OTHER: &str = "other";

/// Returns the names on the command line.
pub(in crate::commands) fn words() -> Vec<&'static str> {
    std::iter::once(OTHER).chain(PROVIDERS.iter().map(|provider| provider.word)).collect()
}
