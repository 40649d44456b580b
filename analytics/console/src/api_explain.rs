//! Explanations of figures in the API.

use mailqos_figures::explain::Explanation;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    app::{Answer, App, Problem},
    http::{request::Ask, respond},
    pages::{
        explain::explanation,
        monitor::{Asked, find},
    },
};

/// Description of this part of the API.
#[derive(OpenApi)]
#[openapi(paths(explain_doc))]
pub(crate) struct Description;

/// Samples that a figure excludes.
#[derive(Debug, Serialize, ToSchema)]
struct LeftOutAnswer {
    samples: u64,
    why: &'static str,
}

/// A sample behind a figure.
#[derive(Debug, Serialize, ToSchema)]
struct SampleAnswer {
    started_at: String,
    outcome: String,
    /// Milliseconds.
    value: Option<f64>,
    /// Role of the sample in the figure.
    role: String,
    stage: Option<String>,
    error: Option<String>,
}

/// How a figure is calculated: the keys of `mailqos-analytics stats --explain --format json`.
#[derive(Debug, Serialize, ToSchema)]
struct ExplanationAnswer {
    site: String,
    monitor: String,
    figure: String,
    period: String,
    definition: &'static str,
    /// Null without values; `not delivered` if a percentile lies among undelivered mails.
    value: serde_json::Value,
    /// 95 % confidence interval.
    interval: Option<Vec<f64>>,
    unit: &'static str,
    calculation: String,
    samples_in_period: u64,
    counted_tests: u64,
    values: u64,
    left_out: Vec<LeftOutAnswer>,
    /// Tests counted as failed although their mail may still be found.
    unsettled: u64,
    /// Maintenance declared afterwards; only for users who see all monitors.
    declared: Vec<String>,
    /// Files that can't be read; only for users who see all monitors.
    skipped_files: Vec<String>,
    /// Number of samples that the figure is based on.
    samples_behind_it: u64,
    /// The decisive samples.
    samples: Vec<SampleAnswer>,
}

impl From<Explanation> for ExplanationAnswer {
    fn from(of: Explanation) -> Self {
        let left_out = of.left_out.into_iter();
        let samples = of.samples.into_iter();
        Self {
            site: of.site,
            monitor: of.monitor,
            figure: of.figure,
            period: of.period,
            definition: of.definition,
            value: of.value,
            interval: of.interval.map(|(low, high)| vec![low, high]),
            unit: of.unit,
            calculation: of.calculation,
            samples_in_period: of.samples_in_period,
            counted_tests: of.counted_tests,
            values: of.values,
            left_out: left_out
                .map(|left| LeftOutAnswer { samples: left.samples, why: left.why })
                .collect(),
            unsettled: of.unsettled,
            declared: of.declared,
            skipped_files: of.skipped_files,
            samples_behind_it: of.samples_behind_it,
            samples: samples
                .map(|sample| SampleAnswer {
                    started_at: sample.started_at,
                    outcome: sample.outcome,
                    value: sample.value,
                    role: sample.role,
                    stage: sample.stage,
                    error: sample.error,
                })
                .collect(),
        }
    }
}

#[utoipa::path(
    get, path = "/api/v1/monitors/{site}/{monitor}/explain", operation_id = "explain",
    params(
        ("site" = String, Path), ("monitor" = String, Path),
        ("figure" = Option<String>, Query, description = "Name of a figure of `stats`, such as `round_trip_p95`"),
        ("period" = Option<String>, Query, description = "`day`, `week`, `month`, `year` (until now), or a calendar period such as `2026-11`"),
        ("from" = Option<String>, Query, description = "Start, in RFC 3339, instead of a period"),
        ("to" = Option<String>, Query, description = "End"),
    ),
    responses(
        (status = 200, description = "Null without tests", body = Option<ExplanationAnswer>),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 404, body = Problem),
    )
)]
#[expect(dead_code, reason = "describes the operation")]
fn explain_doc() {}

/// Sends how a figure of a monitor is calculated.
pub(crate) fn explain(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let entry = find(app, ask, &viewer)?;
    let asked = Asked::read(app, ask)?;
    let found = explanation(app, ask, (&viewer, &entry, &asked))?;
    Ok(respond::json(200, &found.map(ExplanationAnswer::from)))
}
