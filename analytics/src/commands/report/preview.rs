//! `report --preview`: shows the report in a browser on this machine and generates it again
//! whenever one of its files changes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use mailqos_config::Config;
use mailqos_model::UtcMicros;
use mailqos_report::{generate, media};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{RwLock, Semaphore},
    task::block_in_place,
};

use crate::commands::{Failure, Global, print, report};

/// Interval of checks for changed files.
const LOOK: Duration = Duration::from_millis(500);
/// Timeout for a browser's request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of connections at the same time.
const CONNECTIONS: usize = 32;
/// Maximum number of files that are watched.
const MAX_FILES: usize = 2_000;
/// Maximum depth of the folders that are watched.
const DEPTH: usize = 4;

/// Reloads the page when a newer one is available.
const RELOAD: &str = r#"<script>
(async () => {
  let shown = null;
  for (;;) {
    try {
      const now = await (await fetch("/version", {cache: "no-store"})).text();
      if (shown !== null && now !== shown) location.reload();
      shown = now;
    } catch { /* The preview has ended or is restarting. */ }
    await new Promise(resolve => setTimeout(resolve, 700));
  }
})();
</script>
"#;

/// The displayed pages.
#[derive(Debug, Default)]
struct PreviewPages {
    /// Incremented each time the report is generated.
    version: u64,
    /// Title and page of each report, or the error.
    pages: Vec<(String, String)>,
}

/// Serves the report until the program is stopped.
///
/// # Errors
/// The port is not available.
pub(super) async fn run(
    args: &report::Args,
    global: &Global,
    port: u16,
) -> Result<ExitCode, Failure> {
    let listener =
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.map_err(|error| {
            Failure::work_help(
                format!("127.0.0.1:{port}: {error}"),
                "choose another port with --port, or 0 for any free port",
            )
        })?;
    let address = listener.local_addr()?;
    let shown = Arc::new(RwLock::new(PreviewPages::default()));
    print(format!("http://{address}/\n"))?;
    eprintln!("watching the report's files; press Ctrl-C to stop");
    let serving = tokio::spawn(serve(listener, Arc::clone(&shown)));
    let mut seen = None;
    loop {
        let files = watched(args, global);
        if seen.as_ref() != Some(&files) {
            seen = Some(files);
            let (pages, said) = block_in_place(|| pages(args, global));
            let mut shown = shown.write().await;
            shown.version += 1;
            shown.pages = pages;
            eprintln!("{said}");
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    serving.abort();
    Ok(ExitCode::SUCCESS)
}

/// Returns the files that the report is generated from, except the samples, and the times of their
/// last changes.
fn watched(args: &report::Args, global: &Global) -> BTreeMap<PathBuf, Option<SystemTime>> {
    let config = global.quiet();
    let mut files = BTreeMap::new();
    let mut add = |path: &Path| {
        let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        files.insert(path.to_owned(), changed);
    };
    add(&global.config_file());
    if let Some(file) = report::file(args, config.as_ref()) {
        add(&file);
        // Images and a logo are next to the definition.
        if let Some(folder) = file.parent() {
            visit(folder, 1, &mut add);
        }
    }
    if let Some(config) = &config {
        visit(&config.templates, DEPTH, &mut add);
    }
    files
}

fn visit(folder: &Path, depth: usize, add: &mut impl FnMut(&Path)) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_FILES) {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 => visit(&path, depth - 1, add),
            Ok(kind) if kind.is_file() && matters(&path) => add(&path),
            _ => {}
        }
    }
}

/// Returns whether a report may be generated from a file of this kind. Other files in the folder,
/// such as logs, may change without effect.
fn matters(path: &Path) -> bool {
    const KINDS: [&str; 7] = ["toml", "html", "typ", "png", "jpg", "jpeg", "svg"];
    let kind = path.extension().and_then(|kind| kind.to_str());
    kind.is_some_and(|kind| KINDS.contains(&kind.to_ascii_lowercase().as_str()))
}

/// Returns the current pages, and a line about them.
fn pages(args: &report::Args, global: &Global) -> (Vec<(String, String)>, String) {
    match make(args, global) {
        Ok(pages) if pages.is_empty() => {
            let text = "no report was generated: no monitor has both samples in the period and the property \
                that divides reports";
            (vec![("Nothing".to_owned(), plain(text))], text.to_owned())
        }
        Ok(pages) => {
            let said = match pages.len() {
                1 => "made".to_owned(),
                several => format!("generated {several} reports"),
            };
            (pages, said)
        }
        Err(failure) => {
            let text = failure.text();
            (vec![("Wrong".to_owned(), plain(&text))], text)
        }
    }
}

fn make(args: &report::Args, global: &Global) -> Result<Vec<(String, String)>, Failure> {
    let config = report::configuration(args, global)?;
    let config = config.as_ref();
    let (_, _, reports) = report::documents(args, config, UtcMicros::now())?;
    let own = config.map(|config: &Config| config.templates.as_path());
    reports
        .iter()
        .map(|report: &generate::Report| {
            let page = media::html::render(&report.document, own).map_err(Failure::work)?;
            Ok((report.stem.clone(), with_reload(&page)))
        })
        .collect()
}

fn with_reload(page: &str) -> String {
    match page.rfind("</body>") {
        Some(at) => format!("{}{RELOAD}{}", &page[..at], &page[at..]),
        None => format!("{page}{RELOAD}"),
    }
}

fn plain(text: &str) -> String {
    let text = tera_escape(text);
    with_reload(&format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Preview</title><body><pre style=\"white-space:pre-wrap;font:1rem/1.5 monospace;padding:2rem\">{text}</pre></body></html>"
    ))
}

fn tera_escape(text: &str) -> String {
    let mut out = Vec::new();
    // Writing to memory can't fail.
    let _ = tera::escape_html(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

async fn serve(listener: TcpListener, shown: Arc<RwLock<PreviewPages>>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shown = Arc::clone(&shown);
                tokio::spawn(async move {
                    converse(stream, shown).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "preview connection failed");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, shown: Arc<RwLock<PreviewPages>>) {
    let answer = service_fn(move |request| {
        let shown = Arc::clone(&shown);
        async move { Ok::<_, Infallible>(answer(&request, &*shown.read().await)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // A browser that does not read its page must not hold a connection forever.
    if let Ok(Err(error)) = tokio::time::timeout(6 * PATIENCE, served).await {
        tracing::debug!("preview: {error}");
    }
}

fn answer(request: &Request<Incoming>, shown: &PreviewPages) -> Response<Full<Bytes>> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let (status, kind, text) = if host.is_some_and(is_here) {
        page(request.uri().path(), shown)
    } else {
        // Reject requests under other host names: a foreign site could point its own name here and
        // read reports (DNS rebinding).
        (
            StatusCode::FORBIDDEN,
            "text/plain; charset=utf-8",
            "use the address 127.0.0.1\n".to_owned(),
        )
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

fn page(path: &str, shown: &PreviewPages) -> (StatusCode, &'static str, String) {
    const HTML: &str = "text/html; charset=utf-8";
    match path {
        "/version" => (StatusCode::OK, "text/plain; charset=utf-8", shown.version.to_string()),
        "/" => match &shown.pages[..] {
            [] => (StatusCode::OK, HTML, plain("generating …")),
            [(_, page)] => (StatusCode::OK, HTML, page.clone()),
            several => {
                let links = several.iter().enumerate().map(|(number, (name, _))| {
                    format!("<li><a href=\"/{number}\">{}</a></li>", tera_escape(name))
                });
                let list: String = links.collect();
                let page = format!(
                    "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Preview</title><body><ul>{list}</ul></body></html>"
                );
                (StatusCode::OK, HTML, with_reload(&page))
            }
        },
        other => match other
            .trim_start_matches('/')
            .parse::<usize>()
            .ok()
            .and_then(|number| shown.pages.get(number))
        {
            Some((_, page)) => (StatusCode::OK, HTML, page.clone()),
            None => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "not found\n".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_to_this_machine_are_answered() {
        assert!(is_here("127.0.0.1:8080") && is_here("localhost"));
        assert!(!is_here("reports.example.com:8080") && !is_here("127.0.0.1.example.com"));
    }

    #[test]
    fn pages_reload_and_errors_are_shown_not_run() {
        assert!(with_reload("<body><p>x</p></body></html>").ends_with("</script>\n</body></html>"));
        assert!(plain("<script>alert(1)</script>").contains("&lt;script&gt;alert"));
        let shown = PreviewPages {
            version: 7,
            pages: vec![("a<b".into(), "A".into()), ("c".into(), "C".into())],
        };
        assert_eq!(page("/version", &shown).2, "7");
        assert_eq!(page("/1", &shown).2, "C");
        assert!(page("/", &shown).2.contains("a&lt;b"));
        assert_eq!(page("/2", &shown).0, StatusCode::NOT_FOUND);
        assert_eq!(page("/../etc/passwd", &shown).0, StatusCode::NOT_FOUND);
    }
}
