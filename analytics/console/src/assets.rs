//! Style sheet, script, icon and fonts, under names that contain their hash, so that browsers keep
//! them and never mix versions.

use std::{collections::HashMap, fmt::Write as _, sync::LazyLock};

use axum::response::Response;
use hyper::header;
use mailqos_base::hex;
use mailqos_charts::palette::dark_rules;
use mailqos_report::{media::html, theme::ThemeOptions};
use sha2::{Digest as _, Sha256};

use crate::http::respond;

const STYLE: &str = include_str!("../../../templates/console/console.css");
const SCRIPT: &str = include_str!("../../../templates/console/console.js");
/// The script of reports: tables that can be sorted, and texts under the pointer.
const REPORT_SCRIPT: &str = include_str!("../../../templates/html/script.html");
const ICON: &str = include_str!("../../../templates/console/icon.svg");

macro_rules! pictures {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../templates/console/pictures/", $name, ".webp")) as &[u8])),+]
    };
}
/// Pictures of the built-in report templates: their first pages, made by
/// `templates/console/pictures/make`.
const PICTURES: [(&str, &[u8]); 9] = pictures![
    "capacity",
    "deliverability",
    "executive-summary",
    "incident-review",
    "monthly-operations",
    "service-level",
    "site-comparison",
    "top-bottom",
    "trend",
];

/// A file.
#[derive(Debug)]
struct Asset {
    media_type: &'static str,
    bytes: Vec<u8>,
}

/// All files.
#[derive(Debug)]
pub(crate) struct Assets {
    by_name: HashMap<String, Asset>,
    /// Path of the style sheet.
    pub(crate) style: String,
    /// Path of the script.
    pub(crate) script: String,
    /// Path of the icon.
    pub(crate) icon: String,
    /// Paths of the templates' pictures, by name.
    pictures: HashMap<&'static str, String>,
}

/// The files, composed once.
pub(crate) static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

impl Assets {
    fn new() -> Self {
        let mut assets = Self {
            by_name: HashMap::new(),
            style: String::new(),
            script: String::new(),
            icon: String::new(),
            pictures: HashMap::new(),
        };
        let mut faces = String::new();
        for font in html::web_fonts() {
            let path = assets.add("inter", "woff2", "font/woff2", font.bytes.to_vec());
            // Writing to a `String` can't fail.
            let _ = writeln!(
                faces,
                "@font-face {{ font-family: \"Report\"; font-weight: {}; font-display: swap; unicode-range: {}; src: url(\"{path}\") format(\"woff2\"); }}",
                font.weight, font.range
            );
        }
        let style = format!("{faces}{}{STYLE}", colours());
        assets.style = assets.add("console", "css", "text/css; charset=utf-8", style.into());
        assets.script =
            assets.add("console", "js", "text/javascript; charset=utf-8", script().into());
        assets.icon = assets.add("icon", "svg", "image/svg+xml", ICON.into());
        for (name, bytes) in PICTURES {
            let path = assets.add(name, "webp", "image/webp", bytes.to_vec());
            assets.pictures.insert(name, path);
        }
        assets
    }

    /// Returns the path of the picture of a report template, if it has one.
    pub(crate) fn picture(&self, template: &str) -> Option<&str> {
        self.pictures.get(template).map(String::as_str)
    }

    fn add(
        &mut self,
        stem: &str,
        extension: &str,
        media_type: &'static str,
        bytes: Vec<u8>,
    ) -> String {
        let hash = hex(&Sha256::digest(&bytes)[..8]);
        let name = format!("{stem}-{hash}.{extension}");
        let path = format!("/assets/{name}");
        self.by_name.insert(name, Asset { media_type, bytes });
        path
    }

    /// Returns a file.
    pub(crate) fn response(&self, name: &str) -> Option<Response> {
        let asset = self.by_name.get(name)?;
        let mut response = respond::response(200, asset.media_type, asset.bytes.clone());
        let forever = header::HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
        Some(response)
    }
}

/// Returns the script of the console; that of reports is a function, because figures are replaced
/// while a page is open.
fn script() -> String {
    let report = REPORT_SCRIPT.trim().trim_start_matches("<script>").trim_end_matches("</script>");
    format!(
        "const enhance = () => {{\ndocument.querySelectorAll(\".tip\").forEach(tip => tip.remove());\n{report}}};\nenhance();\n{SCRIPT}"
    )
}

/// Returns the colours of reports as variables, light and dark, and the dark colours of charts.
fn colours() -> String {
    let theme = ThemeOptions::default().resolve();
    let set = |dark: bool| -> String {
        let colour = |(name, colour): (&&str, &mailqos_report::document::Colour)| {
            format!("--{name}: {}; ", if dark { &colour.dark } else { &colour.light })
        };
        theme.colours.iter().map(colour).collect()
    };
    let (light, dark) = (set(false), set(true));
    format!(
        ":root {{ {light} }}\n\
         @media (prefers-color-scheme: dark) {{ :root:not([data-look=\"light\"]) {{ {dark} }}\n{} }}\n\
         :root[data-look=\"dark\"] {{ {dark} }}\n{}\n",
        dark_rules(":root:not([data-look=\"light\"]) figure"),
        dark_rules(":root[data-look=\"dark\"] figure"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the script: the most that a page should load.
    const MAX_SCRIPT: usize = 50_000;

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_the_script_is_small() {
        assert!(script().len() < MAX_SCRIPT, "{} bytes", script().len());
        for asset in ASSETS.by_name.values() {
            let text = String::from_utf8_lossy(&asset.bytes);
            for address in ["http://", "https://", "@import", "eval(", "innerHTML"] {
                let is_name = text.matches(address).count()
                    == text.matches("http://www.w3.org/2000/svg").count();
                assert!(!text.contains(address) || is_name, "{address} in {}", asset.media_type);
            }
        }
        assert!(ASSETS.response("../users.json").is_none());
    }
}
