//! House style: a theme file defines colours, logo, fonts, header, footer, paper, language, and the
//! formats of dates and numbers. `templates/themes/house.toml` applies to every report that names
//! no other theme.
//!
//! Missing files, such as a logo or a font, cause a warning, and the page is generated without
//! them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use mailqos_charts::palette::{self, Palette};
use mailqos_config::{
    Config, FromToml, Node, Problem, Problems, Table, did_you_mean,
    key::{Defaulted, Optional, Required, Word, key},
    keys, parse,
    reference::{Key, Shape, ValueKind},
    word,
};
use serde_json::json;
use typst::{
    foundations::Bytes,
    text::{Font, FontStyle},
};

use super::{
    calendar_keys::LanguageTag,
    definition_file::read_file,
    document::{Colour, Face, Theme},
    locale::{Dates, Formats},
    sections::picture,
};

keys! {
    STYLE: StyleKeys {
        /// The house style: see [templates](templates.md).
        theme: Key = Key::new("", ValueKind::NameOrTable(&["theme"]), "").otherwise("that of the house");
    }
}

keys! {
    THEME: ThemeKeys {
        /// In a table: the theme that provides all other keys.
        file: Optional<String> = key().otherwise("`house`, if there is one");
        /// In the header; the author of the PDF.
        company: Defaulted<String> = key().default("\"\"");
        /// At the top of every page.
        header: Defaulted<String> = key().default("\"\"");
        /// At the bottom of every page.
        footer: Defaulted<String> = key().default("\"\"");
        /// An SVG, PNG or JPEG file.
        logo: Optional<PathBuf> = key();
        /// The logo for dark pages.
        logo_dark: Optional<PathBuf> = key().otherwise("`logo`");
        /// The paper of the PDF.
        paper: Word<bool> = word!([("a4", false), ("letter", true)]).default("\"a4\"");
        /// The language of reports that set none: `en`, `de` or `sv`.
        language: Optional<LanguageTag> = key().otherwise("`en`");
        /// The same as `accent` in `colours`.
        accent: Optional<Hex> = key();
        /// The colours of pages and charts.
        colours: Key = Key::table(&["theme.colours"]);
        /// TrueType or OpenType files of one family.
        fonts: Defaulted<Vec<PathBuf>> = key().default("[]");
        /// How dates and numbers are written.
        formats: Key = Key::table(&["theme.formats"]);
    }
}

keys! {
    COLOUR_NAMES: ColourKeys {
        /// Lines, links, bands, heat maps.
        accent: Key = Key::new("", PAIR, "");
        /// Text.
        ink: Key = Key::new("", PAIR, "");
        /// Secondary text.
        grey: Key = Key::new("", PAIR, "");
        /// Rules.
        hair: Key = Key::new("", PAIR, "");
        /// The page.
        ground: Key = Key::new("", PAIR, "");
        /// Areas.
        tint: Key = Key::new("", PAIR, "");
        /// Good values.
        good: Key = Key::new("", PAIR, "");
        /// Late tests, and warnings.
        late: Key = Key::new("", PAIR, "");
        /// What failed.
        failed: Key = Key::new("", PAIR, "");
    }
}

keys! {
    COLOUR_PAIR: PairKeys {
        /// The colour on white.
        light: Required<Hex> = key();
        /// The colour on dark pages.
        dark: Optional<Hex> = key();
    }
}

keys! {
    FORMATS: FormatKeys {
        /// `language`, `iso`, or a form such as `%d.%m.%Y`.
        date: Defaulted<String> = key().default("\"language\"");
        /// The clock.
        time: Word<bool> = word!([("24h", false), ("12h", true)]).default("\"24h\"");
        /// The decimal mark.
        decimal: Optional<String> = key().otherwise("the language's");
        /// The thousands separator; may be empty.
        thousands: Optional<String> = key().otherwise("the language's");
    }
}

/// A colour, or one for light and one for dark pages.
const PAIR: ValueKind = ValueKind::Type {
    expected: || format!("{}, or `{{ light = …, dark = … }}`", Hex::expected()),
    schema: || {
        json!({ "anyOf": [Hex::schema(), {
            "type": "object",
            "properties": { "light": Hex::schema(), "dark": Hex::schema() },
            "required": ["light"],
            "additionalProperties": false,
        }] })
    },
};

/// The table of a theme in the reference.
pub(super) const SHAPE: Shape = Shape {
    id: "theme",
    head: "[theme]",
    about: "The house style: a file `templates/themes/NAME.toml`, or a table in a definition or template, whose keys override those of the house or of another theme.",
    keys: &[ThemeKeys::KEYS],
};

/// The table of a theme's colours in the reference.
pub(super) const COLOURS_SHAPE: Shape = Shape {
    id: "theme.colours",
    head: "[theme.colours]",
    about: "Each is a colour such as `\"#1c5d99\"`, or one for light and one for dark pages. Text with too little contrast causes a warning.",
    keys: &[ColourKeys::KEYS],
};

/// The table of a theme's formats in the reference.
pub(super) const FORMATS_SHAPE: Shape = Shape {
    id: "theme.formats",
    head: "[theme.formats]",
    about: "How dates and numbers are written.",
    keys: &[FormatKeys::KEYS],
};

/// Name of the default theme.
pub const HOUSE: &str = "house";
/// Example theme for new themes.
pub const EXAMPLE: &str = include_str!("../../../templates/themes/example.toml");
/// Maximum size of a font file, in bytes.
const MAX_FONT: u64 = 8 << 20;
/// Minimum contrast of text (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;

/// Colours of the page: name, on white, on dark.
const COLOURS: [(&str, &str, &str); 9] = [
    ("accent", "#1c5d99", "#6fb3e8"),
    ("ink", "#1a1d21", "#eceff2"),
    ("grey", "#565d66", "#a4adb7"),
    ("hair", "#d9dde2", "#343a41"),
    ("ground", "#ffffff", "#14171a"),
    ("tint", "#f4f6f8", "#1d2125"),
    ("good", "#1f6f43", "#74cf9c"),
    ("late", "#8a5a00", "#f0bd54"),
    ("failed", "#b3401f", "#ff9473"),
];
/// Colours of text and of marks.
const INKS: [&str; 6] = ["accent", "ink", "grey", "good", "late", "failed"];

/// House style as read from a file or a definition.
#[derive(Debug, Clone, Default)]
pub struct ThemeOptions {
    company: String,
    header: String,
    footer: String,
    logo: Option<PathBuf>,
    logo_dark: Option<PathBuf>,
    letter: bool,
    colours: BTreeMap<&'static str, (String, Option<String>)>,
    fonts: Vec<PathBuf>,
    /// Language tag, for reports that set none.
    pub language: Option<String>,
    /// Formats of dates and numbers.
    pub formats: Formats,
}

/// A colour, `#rrggbb`.
pub(super) struct Hex(String);

impl FromToml for Hex {
    fn expected() -> String {
        "a colour such as \"#0a5fa8\"".into()
    }
    fn from_toml(node: &Node) -> Result<Self, String> {
        let text = String::from_toml(node)?;
        // `#abc` and `0a5fa8` are common spellings.
        let digits = text.trim().trim_start_matches('#').to_ascii_lowercase();
        let long = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits,
        };
        let colour = format!("#{long}");
        if rgb(&colour).is_some() {
            Ok(Self(colour))
        } else {
            Err(format!("{text:?} is not a colour"))
        }
    }
}

/// Reads the theme of a definition or a template: `theme` is the name of a theme file, or a table
/// with the same keys, whose `file` may name a theme file to extend. The default theme provides the
/// remaining keys.
pub fn read(config: Option<&Config>, table: &mut Table, problems: &mut Problems) -> ThemeOptions {
    let Some(node) = table.node(&STYLE.theme) else {
        return house(config, problems);
    };
    let Some(mut own) = node.as_table() else {
        let Some(name) = node.read::<String>(problems) else {
            return ThemeOptions::default();
        };
        return match file_table(config, &name, Some(&node), problems) {
            Some(table) => options(table, problems),
            None => ThemeOptions::default(),
        };
    };
    let file = own.node(&THEME.file);
    let below = match &file {
        Some(node) => node
            .read::<String>(problems)
            .and_then(|name| file_table(config, &name, Some(node), problems)),
        None if exists(config, HOUSE) => file_table(config, HOUSE, None, problems),
        None => None,
    };
    options(
        match &below {
            Some(below) => own.over(below),
            None => own,
        },
        problems,
    )
}

/// Reads the default theme, if there is one.
pub fn house(config: Option<&Config>, problems: &mut Problems) -> ThemeOptions {
    if exists(config, HOUSE) { named(config, HOUSE, problems) } else { ThemeOptions::default() }
}

/// Reads a theme by name.
pub fn named(config: Option<&Config>, name: &str, problems: &mut Problems) -> ThemeOptions {
    file_table(config, name, None, problems)
        .map_or_else(ThemeOptions::default, |table| options(table, problems))
}

/// Returns the folder of the theme files.
pub fn folder(config: Option<&Config>) -> PathBuf {
    config
        .map_or_else(|| PathBuf::from("templates"), |config| config.templates.clone())
        .join("themes")
}

/// Returns the names of the themes.
pub fn names(config: Option<&Config>) -> Vec<String> {
    let entries = std::fs::read_dir(folder(config)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".toml").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn exists(config: Option<&Config>, name: &str) -> bool {
    config.is_some() && folder(config).join(format!("{name}.toml")).is_file()
}

fn file_table(
    config: Option<&Config>,
    name: &str,
    node: Option<&Node>,
    problems: &mut Problems,
) -> Option<Table> {
    let plain = Path::new(name).components().count() == 1;
    let file = folder(config).join(format!("{name}.toml"));
    if !plain || !file.is_file() {
        let names = names(config);
        let help = did_you_mean(name, names.iter().map(String::as_str), || {
            if names.is_empty() {
                let folder = folder(config);
                format!(
                    "create one with `templates theme {HOUSE}`; themes are files in {}",
                    folder.display()
                )
            } else {
                format!("available: {}", names.join(", "))
            }
        });
        let message = format!("unknown theme {name:?}");
        let problem = match node {
            Some(node) => node.problem(message, "unknown"),
            None => Problem::error(message),
        };
        problems.push(problem.help(help));
        return None;
    }
    match read_file(&file) {
        Ok(text) => parse(&file, text, problems),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

fn options(mut table: Table, problems: &mut Problems) -> ThemeOptions {
    let _ = table.node(&THEME.file);
    let company = table.read(&THEME.company, problems);
    let header = table.read(&THEME.header, problems);
    let footer = table.read(&THEME.footer, problems);
    let logo = table.read(&THEME.logo, problems);
    let logo_dark = table.read(&THEME.logo_dark, problems);
    let letter = table.read(&THEME.paper, problems);
    let mut colours = BTreeMap::new();
    // `accent` at the top level predates the table of colours.
    if let Some(Hex(accent)) = table.read(&THEME.accent, problems) {
        colours.insert("accent", (accent, None));
    }
    if let Some(mut own) = table.table(&THEME.colours, problems) {
        for key in ColourKeys::KEYS {
            let Some(node) = own.node(key) else { continue };
            let pair = match node.as_table() {
                Some(mut pair) => {
                    let light = pair.read(&COLOUR_PAIR.light, problems);
                    let dark = pair.read(&COLOUR_PAIR.dark, problems);
                    pair.finish(problems);
                    light.map(|Hex(light)| (light, dark.map(|dark| dark.0)))
                }
                None => node.read(problems).map(|Hex(light)| (light, None)),
            };
            if let Some(pair) = pair {
                colours.insert(key.name, pair);
            }
        }
        own.finish(problems);
    }
    let fonts = table.node(&THEME.fonts).map_or_else(Vec::new, |node| {
        node.as_list().iter().filter_map(|node| node.read(problems)).collect()
    });
    let language = table.read(&THEME.language, problems).map(|LanguageTag(tag)| tag);
    let formats = table
        .table(&THEME.formats, problems)
        .map_or_else(Formats::default, |table| read_formats(table, problems));
    table.finish(problems);
    ThemeOptions {
        company,
        header,
        footer,
        logo,
        logo_dark,
        letter,
        colours,
        fonts,
        language,
        formats,
    }
}

fn read_formats(mut table: Table, problems: &mut Problems) -> Formats {
    let mut formats = Formats::default();
    if let Some(node) = table.node(&FORMATS.date)
        && let Some(text) = node.read::<String>(problems)
    {
        match Dates::parse(&text) {
            Ok(dates) => formats.dates = dates,
            Err(reason) => problems.push(
                node.problem(format!("{text:?} is not a valid date format: {reason}"), "here")
                    .help("use \"language\", \"iso\", or a format such as \"%d.%m.%Y\""),
            ),
        }
    }
    formats.twelve_hours = table.read(&FORMATS.time, problems);
    let mut sign = |key: &Optional<String>, empty: bool| -> Option<String> {
        let node = table.node(key)?;
        let text: String = node.read(problems)?;
        let fits = match text.chars().count() {
            0 => empty,
            1 => !text.chars().any(|c| c.is_alphanumeric() || c.is_control()),
            _ => false,
        };
        if !fits {
            problems.push(
                node.problem(format!("{text:?} is not a valid separator"), "here")
                    .help("use a single character, such as \",\" or \".\""),
            );
        }
        fits.then_some(text)
    };
    formats.decimal = sign(&FORMATS.decimal, false).and_then(|text| text.chars().next());
    formats.thousands = sign(&FORMATS.thousands, true);
    table.finish(problems);
    formats
}

impl ThemeOptions {
    /// Reads the files of the theme, with a warning for each missing one.
    pub fn resolve(&self) -> Theme {
        let logo = |file: &Option<PathBuf>| {
            file.as_ref().and_then(|file| {
                picture(file, &self.company, 20)
                    .inspect_err(|error| tracing::warn!(%error, "logo skipped"))
                    .ok()
            })
        };
        let faces: Vec<Face> = self
            .fonts
            .iter()
            .filter_map(|file| {
                face(file)
                    .inspect_err(|error| {
                        tracing::warn!(%error, "font skipped; the next one is used");
                    })
                    .ok()
            })
            .collect();
        let missing_logo = self.logo.is_some();
        let logo_light = logo(&self.logo);
        Theme {
            company: self.company.clone(),
            header: self.header.clone(),
            footer: self.footer.clone(),
            paper: if self.letter { "us-letter" } else { "a4" },
            accent: self.colour("accent").light,
            colours: COLOURS.iter().map(|(name, ..)| (*name, self.colour(name))).collect(),
            logo_missing: missing_logo && logo_light.is_none(),
            logo: logo_light,
            logo_dark: logo(&self.logo_dark),
            font: faces.first().map(|face| face.family.clone()).unwrap_or_default(),
            faces,
            palette: self.palette(),
        }
    }

    fn colour(&self, name: &str) -> Colour {
        let ground = |dark: bool| {
            let own = self.colours.get("ground");
            let usual = usual("ground");
            match (own, dark) {
                (Some((light, _)), false) => light.clone(),
                (Some((_, Some(dark))), true) => dark.clone(),
                (_, false) => usual.0.to_owned(),
                (_, true) => usual.1.to_owned(),
            }
        };
        let Some((light, dark)) = self.colours.get(name) else {
            let (light, dark) = usual(name);
            return Colour { light: light.to_owned(), dark: dark.to_owned() };
        };
        let is_ink = INKS.contains(&name);
        let dark = match dark {
            Some(dark) => dark.clone(),
            // A colour that is readable on white is lightened until it is readable on dark pages.
            None if is_ink => lighter(light, &ground(true)),
            None => usual(name).1.to_owned(),
        };
        for (shown, ground, when) in
            [(light, ground(false), "white"), (&dark, ground(true), "a dark page")]
        {
            let contrast = contrast(shown, &ground);
            if is_ink && contrast < CONTRAST {
                tracing::warn!(
                    "the theme's {name} {shown} has a contrast of {contrast:.1} : 1 on {when}; readable text \
                     needs at least {CONTRAST} : 1"
                );
            }
        }
        Colour { light: light.clone(), dark }
    }

    /// Returns the colours of the charts: custom colours of the page, and those derived from them.
    fn palette(&self) -> Palette {
        let mut own: BTreeMap<String, (String, String)> = BTreeMap::new();
        for name in self.colours.keys() {
            let colour = self.colour(name);
            own.insert((*name).to_owned(), (colour.light, colour.dark));
        }
        let grounds = self.colour("ground");
        if let Some((light, dark)) = own.get("accent").cloned() {
            let mut shade = |class: String, share: f64| {
                own.insert(
                    class,
                    (mix(&light, &grounds.light, share), mix(&dark, &grounds.dark, share)),
                );
            };
            shade("band".to_owned(), 0.2);
            shade("calm".to_owned(), 0.36);
            let last = f64::from(palette::RAMP - 1);
            for step in 0..palette::RAMP {
                shade(format!("ramp{step}"), 0.06 + 0.94 * f64::from(step) / last);
            }
        }
        Palette::new(&own)
    }
}

fn usual(name: &str) -> (&'static str, &'static str) {
    COLOURS
        .iter()
        .find(|(known, ..)| *known == name)
        .map_or(("#000000", "#ffffff"), |(_, light, dark)| (light, dark))
}

/// Reads a font from a file; the error names the file and the reason.
fn face(file: &Path) -> Result<Face, String> {
    let told = |error: std::io::Error| format!("{}: {error}", file.display());
    let bytes = mailqos_base::files::read(file, MAX_FONT).map_err(told)?;
    let font = Font::new(Bytes::new(bytes.clone()), 0).ok_or_else(|| {
        format!("{}: not a font; use a TrueType or OpenType file (.ttf, .otf)", file.display())
    })?;
    let info = font.info();
    Ok(Face {
        family: info.family.to_string(),
        weight: info.variant.weight.to_number(),
        italic: info.variant.style != FontStyle::Normal,
        media_type: if bytes.starts_with(b"OTTO") { "font/otf" } else { "font/ttf" },
        bytes,
    })
}

fn rgb(hex: &str) -> Option<[u8; 3]> {
    let digits = hex.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    Some([part(0)?, part(2)?, part(4)?])
}

/// Mixes two colours; `share` is the share of the first.
fn mix(one: &str, other: &str, share: f64) -> String {
    let (one, other) = (rgb(one).unwrap_or_default(), rgb(other).unwrap_or_default());
    let part = |at: usize| {
        let value = f64::from(one[at]) * share + f64::from(other[at]) * (1.0 - share);
        value.round().clamp(0.0, 255.0) as u8
    };
    format!("#{:02x}{:02x}{:02x}", part(0), part(1), part(2))
}

fn lighter(colour: &str, ground: &str) -> String {
    (0..=20)
        .map(|step| mix("#ffffff", colour, f64::from(step) / 20.0))
        .find(|mixed| contrast(mixed, ground) >= 6.0)
        .unwrap_or_else(|| "#ffffff".to_owned())
}

/// Returns the contrast ratio as defined by WCAG 2.2.
fn contrast(one: &str, other: &str) -> f64 {
    let luminance = |hex: &str| {
        let parts = rgb(hex).unwrap_or_default().map(|part| {
            let value = f64::from(part) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_right_and_names_every_key() {
        let mut problems = Problems::default();
        let table =
            parse(Path::new("example.toml"), EXAMPLE.to_owned(), &mut problems).expect("TOML");
        options(table, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        for (name, ..) in COLOURS {
            assert!(EXAMPLE.contains(&format!("{name} = ")), "{name}");
        }
    }

    #[test]
    fn a_dark_page_gets_inks_that_can_be_read_there() {
        let theme = ThemeOptions {
            colours: [("accent", ("#7a0019".to_owned(), None))].into(),
            ..ThemeOptions::default()
        };
        let accent = theme.colour("accent");
        assert_eq!(accent.light, "#7a0019");
        assert!(contrast(&accent.dark, "#14171a") >= CONTRAST, "{}", accent.dark);
        let svg = "<path stroke=\"#0A5FA8\"/><rect fill=\"#CFE1F2\"/><text>#0A5FA8</text>";
        let palette = theme.palette();
        let own = palette.recolour(svg);
        assert!(own.contains("stroke=\"#7a0019\"") && !own.contains("#CFE1F2"), "{own}");
        assert!(own.contains("<text>#0A5FA8"), "text stays: {own}");
    }

    #[test]
    fn problems_of_a_theme_are_reported_with_their_line() {
        let text = "acent = \"#112233\"\nlanguage = \"xx\"\n[colours]\ngood = \"green\"\n[formats]\ndate = \"%Q\"\ndecimal = \"12\"\n";
        let mut problems = Problems::default();
        let table = parse(Path::new("house.toml"), text.to_owned(), &mut problems).expect("TOML");
        options(table, &mut problems);
        problems.sort();
        insta::assert_snapshot!(problems.to_string());
    }
}
