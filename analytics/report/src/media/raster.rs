//! PNG images of drawings for mail clients, which don't show SVG. Bundled fonts make them look the
//! same everywhere.

use std::sync::{Arc, LazyLock};

use resvg::{
    tiny_skia::{Color, Pixmap, Transform},
    usvg::{
        Options, Tree,
        fontdb::{Database, Source},
    },
};

use super::{MediaError, pdf::drawn_font_files};

/// Image pixels per drawing pixel: two, for high-resolution screens.
const SCALE: f32 = 2.0;
/// Maximum width and height of an image, in pixels.
const MAX_SIDE: f32 = 8_000.0;

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for file in drawn_font_files() {
        fonts.load_font_source(Source::Binary(Arc::new(file)));
    }
    fonts.set_sans_serif_family("Inter");
    Arc::new(fonts)
});

/// Converts a drawing to PNG on white.
///
/// # Errors
/// The drawing is not valid SVG, or too large.
pub(super) fn png(svg: &[u8]) -> Result<Vec<u8>, MediaError> {
    let failed = |what: String| MediaError::Setting(format!("can't draw an image: {what}"));
    let mut options = Options {
        fontdb: Arc::clone(&FONTS),
        font_family: "Inter".to_owned(),
        ..Options::default()
    };
    // Drawings may not access files of this machine.
    options.image_href_resolver.resolve_string = Box::new(|_, _| None);
    let tree = Tree::from_data(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let scale = SCALE.min(MAX_SIDE / size.width().max(size.height()).max(1.0));
    let pixels = |side: f32| (side * scale).ceil().max(1.0) as u32;
    let mut picture = Pixmap::new(pixels(size.width()), pixels(size.height()))
        .ok_or_else(|| failed("it has no size".to_owned()))?;
    picture.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut picture.as_mut());
    picture.encode_png().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_drawn_with_the_bundled_fonts() {
        let svg = |text: &str| {
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 60 20\" font-family=\"Inter, sans-serif\"><text x=\"2\" y=\"15\">{text}</text></svg>"
            )
        };
        let empty = png(svg("").as_bytes()).expect("drawn");
        assert!(empty.starts_with(b"\x89PNG"));
        for text in ["Lyon", "東京", "Ω"] {
            let drawn = png(svg(text).as_bytes()).expect("drawn");
            assert_ne!(drawn, empty, "{text}");
            assert_eq!(drawn, png(svg(text).as_bytes()).expect("drawn"), "{text}");
        }
        assert!(png(b"no drawing").is_err());
    }
}
