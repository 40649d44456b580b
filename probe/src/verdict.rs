//! The outcome of a test in words, and what to do about a failure.

use std::fmt::Write as _;

use mailqos_config::Kind;
use mailqos_mail::remedy;
use mailqos_model::{RoundTrip, Sample, Stage};

/// Returns the likely remedy for a failed test, if there is one.
pub(crate) fn what_to_do(kind: &Kind, stage: Option<Stage>, error: Option<&str>) -> Option<String> {
    let (stage, error) = (stage?, error?);
    remedy(stage, error, kind.endpoint(stage)).map(|remedy| format!("→ {remedy}"))
}

/// Describes the outcome of a test in a line: stage, server, round trip and reason.
pub(crate) fn verdict(sample: &Sample, kind: &Kind) -> String {
    let mut text = sample.outcome.to_string();
    if let Some(stage) = sample.stage {
        let _ = write!(text, " at {stage}");
        if stage != Stage::Bounced {
            let _ = write!(text, " ({})", kind.endpoint(stage).place());
        }
    }
    if let (Some(round_trip), Some(longest)) = (RoundTrip::of(sample), kind.max_round_trip()) {
        let _ = write!(text, ": round trip {round_trip}, max {longest}");
    }
    if let Some(error) = &sample.error {
        let _ = write!(text, ": {error}");
    }
    if sample.is_provisional() {
        text.push_str(" (may still arrive)");
    }
    text
}
