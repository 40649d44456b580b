//! Provenance of a report: for each period, its monitors with the number and the hash of their
//! samples. It is embedded in the report, so that anyone with the lake can verify whether the data
//! is unchanged and, if not, where it differs. The hash covers the columns in [`Columns`]; sections
//! may show more, such as hops.

use std::io::Read as _;

use mailqos_base::hex;
use mailqos_figures::{Calendar, Period, PeriodError};
use mailqos_lake_tables::{Column, Lake, LakeError, Metric, Series, SeriesQuery};
use mailqos_model::{Outcome, UtcMicros};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Version of the format.
const FORM: u32 = 1;
/// Start of the provenance in a file, by which it is found.
const BEGIN: &str = r#"{"mailqos_provenance":"#;
/// Approximate number of bytes hashed at once.
const CHUNK: usize = 64 << 10;
/// Maximum size of a provenance, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Provenance of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of the format.
    mailqos_provenance: u32,
    /// SHA-256 over all parts, in hexadecimal.
    pub sha256: String,
    /// Periods that were read.
    pub parts: Vec<Part>,
}

/// Samples of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Start of the period, in microseconds since 1970 UTC.
    pub from: UtcMicros,
    /// End of the period, exclusive.
    pub to: UtcMicros,
    /// Columns that were read.
    pub columns: Columns,
    /// Monitors of the period.
    pub monitors: Vec<Origin>,
}

/// Columns of the samples that a hash covers, besides start and outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Columns {
    /// The six main metrics, stage and error.
    All,
    /// The round trip, the only metric read for a previous period.
    RoundTrip,
}

/// Samples of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Site of the monitor.
    pub site: String,
    /// Id of the monitor.
    pub monitor: String,
    /// Number of samples.
    pub samples: u64,
    /// SHA-256 of the samples, in hexadecimal.
    pub sha256: String,
}

/// A difference between a report and the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Site of the monitor.
    pub site: String,
    /// Id of the monitor.
    pub monitor: String,
    /// Start of the period.
    pub from: UtcMicros,
    /// End of the period.
    pub to: UtcMicros,
    /// Number of samples in the report.
    pub then: u64,
    /// Number of samples in the lake.
    pub now: u64,
}

/// Reasons why a file can't be verified.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// The file contains no provenance.
    #[error("the file does not say what data it was made from")]
    Missing,
    /// The file was created by a later version.
    #[error("the file was made by a later version of mailqos")]
    Later,
    /// The provenance is inconsistent.
    #[error("what the file says of its data has been changed: its parts do not give its hash")]
    Inconsistent,
    /// A period is invalid.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The samples can't be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

impl Columns {
    fn metrics(self) -> &'static [Metric] {
        match self {
            Self::All => &Metric::CONTRACT,
            Self::RoundTrip => &[Metric::RoundTrip],
        }
    }
}

impl Origin {
    /// Computes the origin of a monitor's samples.
    pub fn of(series: &Series, columns: Columns) -> Self {
        let mut hash = Sha256::new();
        let metrics = columns.metrics().iter().map(|metric| series.metric(*metric));
        let metrics: Vec<_> = metrics.collect();
        // Hashing many bytes at once is faster.
        let mut bytes = Vec::with_capacity(2 * CHUNK);
        for row in series.inside.clone() {
            bytes.extend_from_slice(&series.started_at[row].to_le_bytes());
            let outcome = Outcome::ALL.iter().position(|outcome| *outcome == series.outcome[row]);
            bytes.push(u8::try_from(outcome.unwrap_or(usize::MAX)).unwrap_or(u8::MAX));
            for metric in &metrics {
                let value = metric.get(row).map_or(i64::MIN, |value| value.0);
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            if columns == Columns::All {
                let stage = series.stage.get(row).copied().flatten();
                let error = series.error.get(row).and_then(Option::as_deref);
                for text in [stage.map(|stage| stage.as_str()), error] {
                    let text = text.unwrap_or_default();
                    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
            if bytes.len() >= CHUNK {
                hash.update(&bytes);
                bytes.clear();
            }
        }
        hash.update(&bytes);
        Self {
            site: series.site.to_string(),
            monitor: series.monitor.to_string(),
            samples: series.inside.len() as u64,
            sha256: hex(&hash.finalize()),
        }
    }
}

impl Provenance {
    /// Creates the provenance of these parts.
    pub fn new(parts: Vec<Part>) -> Self {
        Self {
            mailqos_provenance: FORM,
            sha256: sum(&parts),
            parts,
        }
    }

    /// Returns the provenance as JSON that is safe to embed in HTML.
    pub fn json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_default()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
    }

    /// Finds the provenance in a report: HTML, PDF, JSON or an archive of pages.
    ///
    /// # Errors
    /// There is no provenance, or it is inconsistent.
    pub fn find(file: &[u8]) -> Result<Self, ProvenanceError> {
        let found = if file.starts_with(b"%PDF-") {
            streams(file).find_map(|stream| read(&stream))
        } else if file.starts_with(b"PK\x03\x04") {
            first_page(file).and_then(|page| read(&page))
        } else {
            read(file)
        };
        let found = found.ok_or(ProvenanceError::Missing)?;
        if found.mailqos_provenance > FORM {
            return Err(ProvenanceError::Later);
        }
        if sum(&found.parts) != found.sha256 {
            return Err(ProvenanceError::Inconsistent);
        }
        Ok(found)
    }

    /// Returns the number of samples, including those of a previous period.
    pub fn samples(&self) -> u64 {
        let origins = self.parts.iter().flat_map(|part| &part.monitors);
        origins.map(|origin| origin.samples).sum()
    }

    /// Returns the differences to a lake; empty if the hashed columns of all samples are equal (see
    /// [`Columns`]).
    ///
    /// # Errors
    /// The lake can't be read.
    pub fn differences(&self, lake: &Lake) -> Result<Vec<Difference>, ProvenanceError> {
        let mut differences = Vec::new();
        for part in &self.parts {
            if part.monitors.is_empty() {
                continue;
            }
            let period = Period::new(part.from, part.to, Calendar::new(jiff::tz::TimeZone::UTC))?;
            let mut query = SeriesQuery::new(period)
                .monitors(part.monitors.iter().map(|origin| origin.monitor.clone()))
                .sites(part.monitors.iter().map(|origin| origin.site.clone()))
                .metrics(part.columns.metrics());
            if part.columns == Columns::All {
                query = query.columns(&[Column::Stage, Column::Error]);
            }
            let now = lake.map(&query, |series| Origin::of(series, part.columns))?;
            for then in &part.monitors {
                let now = now
                    .iter()
                    .find(|now| now.site == then.site && now.monitor == then.monitor);
                if now != Some(then) {
                    differences.push(Difference {
                        site: then.site.clone(),
                        monitor: then.monitor.clone(),
                        from: part.from,
                        to: part.to,
                        then: then.samples,
                        now: now.map_or(0, |now| now.samples),
                    });
                }
            }
        }
        Ok(differences)
    }
}

fn sum(parts: &[Part]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(format!("{} {} {:?}\n", part.from.0, part.to.0, part.columns));
        for origin in &part.monitors {
            let line = format!(
                "{:?} {:?} {} {}\n",
                origin.site, origin.monitor, origin.samples, origin.sha256
            );
            hash.update(line);
        }
    }
    hex(&hash.finalize())
}

fn read(bytes: &[u8]) -> Option<Provenance> {
    let at = bytes
        .windows(BEGIN.len())
        .position(|window| window == BEGIN.as_bytes())?;
    serde_json::Deserializer::from_slice(&bytes[at..])
        .into_iter()
        .next()?
        .ok()
}

/// Returns the index page of an archive.
fn first_page(archive: &[u8]) -> Option<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).ok()?;
    let mut page = Vec::new();
    archive.by_index(0).ok()?.take(MAX_BYTES).read_to_end(&mut page).ok()?;
    Some(page)
}

/// Returns the decompressed streams of a PDF; other streams are skipped.
fn streams(file: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let word = b"stream";
        let found = file.get(at..)?.windows(word.len()).position(|window| window == word)?;
        at += found + word.len();
        let skip = match file.get(at..)? {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => return Some(None),
        };
        let mut inflated = Vec::new();
        // Other streams fail at their first bytes; truncated streams keep what precedes the
        // truncation.
        let reader = flate2::read::ZlibDecoder::new(&file[at + skip..]);
        let whole = reader.take(MAX_BYTES).read_to_end(&mut inflated);
        Some(whole.is_ok().then_some(inflated))
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn some() -> Provenance {
        Provenance::new(vec![Part {
            from: UtcMicros(0),
            to: UtcMicros(86_400_000_000),
            columns: Columns::All,
            monitors: vec![Origin {
                site: "hq".into(),
                monitor: "</script>".into(),
                samples: 3,
                sha256: "00".into(),
            }],
        }])
    }

    #[test]
    fn it_is_found_in_html_and_in_pdf() {
        let json = some().json();
        assert!(!json.contains('<'), "{json}");
        let html = format!("<!DOCTYPE html><script type=\"application/json\">{json}</script></html>");
        assert_eq!(Provenance::find(html.as_bytes()).expect("in HTML"), some());
        let mut pdf = b"%PDF-1.7\n1 0 obj\nstream\nno deflate\nendstream\n2 0 obj\nstream\n".to_vec();
        let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflated.write_all(json.as_bytes()).expect("memory takes it");
        pdf.extend(deflated.finish().expect("memory takes it"));
        pdf.extend(b"\nendstream\n%%EOF");
        assert_eq!(Provenance::find(&pdf).expect("in PDF"), some());
    }

    #[test]
    fn what_was_changed_by_hand_is_noticed() {
        let text = some().json().replace("\"samples\":3", "\"samples\":4");
        assert!(matches!(
            Provenance::find(text.as_bytes()),
            Err(ProvenanceError::Inconsistent)
        ));
        assert!(matches!(Provenance::find(b"<html>"), Err(ProvenanceError::Missing)));
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut pdf = b"%PDF-stream\n".to_vec();
            pdf.extend(&bytes);
            prop_assert!(Provenance::find(&pdf).is_err());
            prop_assert!(Provenance::find(&bytes).is_err());
        }
    }
}
