//! Reads receipts from the columns of a day file.

use std::{collections::HashMap, sync::Arc};

use mailqos_model::{EnhancedStatus, Micros, Outcome, Placement, Stage, UtcMicros, Verdict};
use polars::prelude::PolarsResult;

use super::{
    decoded::Decoded,
    receipt::{Receipt, TlsFacts},
};

/// Columns of the lake that receipts are made of.
pub(crate) const COLUMNS: [&str; 20] = [
    "placement",
    "folder",
    "spf",
    "dkim",
    "dmarc",
    "spam_verdict",
    "spam_score",
    "smtp_attempts",
    "smtp_elapsed_us",
    "smtp_send_us",
    "duplicates",
    "smtp_enhanced_status",
    "stage",
    "error",
    "smtp_tls_version",
    "smtp_tls_cipher",
    "smtp_certificate_expires_at",
    "pickup_tls_version",
    "pickup_tls_cipher",
    "pickup_certificate_expires_at",
];

/// A column that has been decoded already, if the file has it.
type Rows<'a, T> = Option<&'a [Option<T>]>;

/// Returns the receipts of all rows of a file.
pub(crate) fn receipts(
    decoded: &mut Decoded,
    outcomes: &[Outcome],
    (stages, errors): (Rows<'_, Stage>, Rows<'_, Arc<str>>),
) -> PolarsResult<Vec<Receipt>> {
    let mut receipts = vec![Receipt::default(); outcomes.len()];
    if let Some(column) = decoded.text("placement")? {
        let column = column.each(|word| word.and_then(|word| word.parse().ok()));
        fill(&mut receipts, column, |receipt, value| receipt.placement = value);
    }
    if let Some(column) = decoded.text("folder")? {
        // Earlier versions recorded only the name.
        let column = column.each(|name| name.map(Placement::of_folder));
        fill(&mut receipts, column, |receipt, value| {
            receipt.placement = receipt.placement.or(value);
        });
    }
    for (index, name) in ["spf", "dkim", "dmarc"].into_iter().enumerate() {
        if let Some(column) = decoded.text(name)? {
            let column = column.each(|word| word.and_then(Verdict::parse));
            fill(&mut receipts, column, |receipt, value| receipt.verdicts[index] = value);
        }
    }
    if let Some(column) = decoded.text("spam_verdict")? {
        let column = column.each(|word| match word {
            Some("spam") => Some(true),
            Some("ham") => Some(false),
            _ => None,
        });
        fill(&mut receipts, column, |receipt, value| receipt.spam = value);
    }
    if let Some(column) = decoded.reals("spam_score")? {
        let milli = |score: f64| (score * 1000.0).round() as i32;
        fill(&mut receipts, column, |receipt, value| receipt.score = value.map(milli));
    }
    if let Some(column) = decoded.codes("smtp_attempts")? {
        fill(&mut receipts, column, |receipt, value| receipt.attempts = value);
    }
    if let Some(column) = decoded.codes("duplicates")? {
        fill(&mut receipts, column, |receipt, value| receipt.duplicates = value);
    }
    retry_delays(decoded, &mut receipts)?;
    if let Some(column) = decoded.text("smtp_enhanced_status")? {
        let column = column.each(|code| code.and_then(EnhancedStatus::find));
        for (row, (receipt, value)) in receipts.iter_mut().zip(column).enumerate() {
            receipt.status = value.filter(|_| outcomes[row] == Outcome::SmtpFailed);
        }
    }
    if let (Some(stages), Some(errors)) = (stages, errors) {
        for ((receipt, stage), error) in receipts.iter_mut().zip(stages).zip(errors) {
            if *stage == Some(Stage::Bounced) {
                receipt.status = error.as_deref().and_then(EnhancedStatus::find);
            }
        }
    }
    for (leg, name) in ["smtp", "pickup"].into_iter().enumerate() {
        tls(decoded, name, leg, &mut receipts)?;
    }
    Ok(receipts)
}

fn fill<T>(receipts: &mut [Receipt], column: Vec<T>, set: impl Fn(&mut Receipt, T)) {
    for (receipt, value) in receipts.iter_mut().zip(column) {
        set(receipt, value);
    }
}

/// Fills in the time that earlier attempts took: that of all attempts without the last one.
fn retry_delays(decoded: &mut Decoded, receipts: &mut [Receipt]) -> PolarsResult<()> {
    let elapsed = decoded.durations("smtp_elapsed_us")?;
    let last = decoded.copied_durations("smtp_send_us")?;
    if let (Some(elapsed), Some(last)) = (elapsed, last) {
        for (row, receipt) in receipts.iter_mut().enumerate() {
            if receipt.attempts.is_some_and(|attempts| attempts > 1)
                && let (Some(elapsed), Some(last)) = (elapsed.get(row), last.get(row))
            {
                receipt.retry_delay = Some((elapsed - last).max(Micros::ZERO));
            }
        }
    }
    Ok(())
}

/// Fills in the TLS of a leg; equal facts are stored once.
fn tls(
    decoded: &mut Decoded,
    name: &str,
    leg: usize,
    receipts: &mut [Receipt],
) -> PolarsResult<()> {
    let mut text = |part: &str| -> PolarsResult<Option<Vec<Option<Arc<str>>>>> {
        let column = decoded.text(&format!("{name}_tls_{part}"))?;
        Ok(column.map(|column| column.each(|word| word.map(Arc::from))))
    };
    let (versions, ciphers) = (text("version")?, text("cipher")?);
    let expiries = decoded.nullable_moments(&format!("{name}_certificate_expires_at"))?;
    if versions.is_none() && ciphers.is_none() && expiries.is_none() {
        return Ok(());
    }
    let of = |column: &Option<Vec<Option<Arc<str>>>>, row: usize| {
        column.as_ref().and_then(|column| column.get(row).cloned().flatten())
    };
    let mut known: HashMap<TlsFacts, Arc<TlsFacts>> = HashMap::new();
    for (row, receipt) in receipts.iter_mut().enumerate() {
        let expires_at = expiries.as_ref().and_then(|column| column.get(row).copied().flatten());
        let facts = TlsFacts {
            version: of(&versions, row),
            cipher: of(&ciphers, row),
            expires_at: expires_at.map(UtcMicros),
        };
        if facts.version.is_some() || facts.cipher.is_some() || facts.expires_at.is_some() {
            let shared = known.entry(facts).or_insert_with_key(|facts| Arc::new(facts.clone()));
            receipt.tls[leg] = Some(Arc::clone(shared));
        }
    }
    Ok(())
}
