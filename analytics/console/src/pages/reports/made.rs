//! A report that a user asked for: its progress, the report in a frame, and its files.

use std::{fs::File, io, path::Path};

use axum::{body::Body, response::Response};
use hyper::header;
use mailqos_report::definition::Format;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::gallery;
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    render::values,
    reports::jobs::{Job, State},
};

/// Bytes that one read of a file returns.
const CHUNK: usize = 64 << 10;
/// The policy of the page around a report: as that of other pages, with a frame.
const FRAMING: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";
/// The policy of a report in the frame: it is complete in itself, has a separate origin, runs no
/// script, and loads nothing. Custom layouts and names of monitors may contain anything.
const FRAMED: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
    font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// Finds the report of an address, if it is the viewer's own.
pub(crate) fn find(app: &App, ask: &Ask, viewer: &Viewer) -> Result<Job, Refusal> {
    app.reports.get(ask.part("id"), &viewer.owner()).ok_or(Refusal::NotFound)
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let job = find(app, ask, &viewer)?;
    let id = ask.part("id");
    let locale = app.locale(ask, Some(&viewer));
    let here = format!("/reports/made/{id}");
    let files: Vec<Value> = job
        .files
        .iter()
        .map(|file| {
            let name: String = form_urlencoded::byte_serialize(file.name.as_bytes()).collect();
            json!({
                "href": format!("{here}/files/{}", name.replace('+', "%20")), "name": file.name,
                "format": file.format.to_uppercase(), "size": size(file.bytes),
            })
        })
        .collect();
    let reason = match &job.state {
        // Reasons may name other people's monitors or files.
        State::Failed(reason) if viewer.sees_all() => reason.as_str(),
        State::Failed(_) => {
            crate::language::text(locale.tag(), "See the program's log for the reason.")
        }
        _ => "",
    };
    let first = job.reports.first();
    let found = values([
        ("active", json!("reports")),
        ("title", json!(gallery::title(&job))),
        ("period", json!(first.map(|report| &report.period))),
        ("headline", json!(first.map(|report| &report.headline))),
        ("state", json!(job.state.as_str())),
        ("state_words", json!(gallery::state(locale.tag(), &job.state))),
        ("is_over", json!(job.state.is_over())),
        ("reason", json!(reason)),
        ("files", json!(files)),
        ("is_single", json!(job.reports.len() == 1)),
        ("view", json!(page_of(&job).map(|_| format!("{here}/view")))),
        ("here", json!(here)),
        ("again", json!(job.again)),
        ("poll", json!((!job.state.is_over()).then(|| format!("/api/v1/reports/made/{id}")))),
    ]);
    Ok(framing(respond::html(200, app.page("report", ask, Some(&viewer), &found)?)))
}

/// Allows a page to show reports in frames.
pub(super) fn framing(mut response: Response) -> Response {
    let policy = header::HeaderValue::from_static(FRAMING);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Returns the name of the page of a report, if it is small enough for one.
fn page_of(job: &Job) -> Option<&str> {
    job.files.iter().find(|file| file.format == "html").map(|file| file.name.as_str())
}

/// Returns a size in a unit that is easy to read.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Cancels the report.
pub(crate) fn send(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require_form(ask)?;
    find(app, ask, &viewer)?;
    if ask.form.text("action") != "cancel" {
        return Err(Refusal::Invalid("This form is not known."));
    }
    app.reports.cancel(ask.part("id"), &viewer.owner());
    Ok(respond::redirect("/reports"))
}

/// Sends the page of the report, for the frame.
pub(crate) fn view(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let job = find(app, ask, &viewer)?;
    let name = page_of(&job).ok_or(Refusal::NotFound)?;
    let path = app.reports.path(ask.part("id"), &job, name).ok_or(Refusal::NotFound)?;
    framed(&path)
}

/// Sends a page for the frame.
pub(crate) fn framed(path: &Path) -> Answer {
    let mut response = stream(path, Format::Html.media_type())?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(FRAMED));
    headers.insert(header::X_FRAME_OPTIONS, header::HeaderValue::from_static("SAMEORIGIN"));
    Ok(response)
}

/// Sends a file of the report.
pub(crate) fn file(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let job = find(app, ask, &viewer)?;
    let name = ask.part("file");
    let path = app.reports.path(ask.part("id"), &job, name).ok_or(Refusal::NotFound)?;
    let format = job.files.iter().find(|file| file.name == name).map(|file| file.format.as_str());
    download(&path, name, format.unwrap_or_default())
}

/// Sends a file to be saved under a name.
pub(crate) fn download(path: &Path, name: &str, format: &str) -> Answer {
    let known = Format::ALL.iter().find(|(known, _)| *known == format);
    let media_type = known.map_or("application/octet-stream", |(_, format)| format.media_type());
    let mut response = stream(path, media_type)?;
    let headers = response.headers_mut();
    if let Ok(value) = header::HeaderValue::from_str(&disposition(name)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    let policy = header::HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// Returns the header field that makes a browser save a file (RFC 6266, section 4.3): its name in
/// UTF-8, and in ASCII for those that don't know this form.
fn disposition(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // RFC 8187, section 3.2.1: `+` and `*` are not what they are in forms.
    let encoded = encoded.replace('+', "%20").replace('*', "%2A");
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

fn stream(path: &Path, media_type: &'static str) -> Answer {
    let failed = |error: io::Error| match error.kind() {
        // The report has just been removed.
        io::ErrorKind::NotFound => Refusal::NotFound,
        _ => Refusal::Internal(format!("{}: {error}", path.display())),
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let file = tokio::fs::File::from_std(file);
    let chunks = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut bytes = vec![0; CHUNK];
        let count = file.read(&mut bytes).await?;
        bytes.truncate(count);
        Ok::<_, io::Error>((count > 0).then_some((bytes, file)))
    });
    let mut response: Response = respond::response(200, media_type, Body::from_stream(chunks));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_safe_in_header_fields() {
        assert_eq!(
            disposition("trend-2026.pdf"),
            "attachment; filename=\"trend-2026.pdf\"; filename*=UTF-8''trend-2026.pdf"
        );
        assert_eq!(
            disposition("東 \"x\"\r\nSet-Cookie: a*.pdf"),
            "attachment; filename=\"___x___Set-Cookie__a_.pdf\"; \
             filename*=UTF-8''%E6%9D%B1%20%22x%22%0D%0ASet-Cookie%3A%20a%2A.pdf"
        );
    }

    #[test]
    fn sizes_are_rounded() {
        assert_eq!([999, 1_999, 2_500_000].map(size), ["999 B", "1 kB", "2 MB"]);
    }
}
