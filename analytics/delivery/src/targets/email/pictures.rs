//! Reduces the number and size of the pictures in a mail for servers that accept no larger ones.

use resvg::tiny_skia::{FilterQuality, Pixmap, PixmapPaint, Transform};

use crate::Inline;

/// Returns a picture of half the width and height, or the original if it can't be read or would not
/// get smaller.
pub(super) fn halved(picture: &Inline) -> Inline {
    let smaller = (|| {
        let large = Pixmap::decode_png(&picture.bytes).ok()?;
        let mut small = Pixmap::new(large.width().div_ceil(2), large.height().div_ceil(2))?;
        let paint = PixmapPaint { quality: FilterQuality::Bicubic, ..PixmapPaint::default() };
        small.draw_pixmap(0, 0, large.as_ref(), &paint, Transform::from_scale(0.5, 0.5), None);
        small.encode_png().ok().filter(|bytes| bytes.len() < picture.bytes.len())
    })();
    Inline { bytes: smaller.unwrap_or_else(|| picture.bytes.clone()), ..picture.clone() }
}

/// Returns a page whose missing pictures are replaced by their alternative texts.
pub(super) fn without_missing(html: &str, has: impl Fn(&str) -> bool) -> String {
    let mut page = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find("<img") {
        let (before, tag) = rest.split_at(at);
        page.push_str(before);
        let end = tag.find('>').map_or(tag.len(), |end| end + 1);
        let (tag, after) = tag.split_at(end);
        match attribute(tag, "src=\"cid:") {
            Some(id) if !has(id) => {
                if let Some(words) = attribute(tag, "alt=\"").filter(|words| !words.is_empty()) {
                    page.push_str("<span style=\"color:#565d66;font-size:12px;\">");
                    page.push_str(words);
                    page.push_str("</span>");
                }
            }
            _ => page.push_str(tag),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

fn attribute<'a>(tag: &'a str, begin: &str) -> Option<&'a str> {
    let value = &tag[tag.find(begin)? + begin.len()..];
    Some(&value[..value.find('"')?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pictures_are_described_in_words() {
        let html = "<p><img src=\"cid:a@x\" alt=\"Delays &amp; losses\" style=\"b\">x<img alt=\"c\" src=\"cid:b@x\"></p>";
        assert_eq!(
            without_missing(html, |id| id == "b@x"),
            "<p><span style=\"color:#565d66;font-size:12px;\">Delays &amp; losses</span>x<img alt=\"c\" src=\"cid:b@x\"></p>"
        );
        assert_eq!(without_missing(html, |_| true), html);
        assert_eq!(without_missing("<img src=\"cid:a", |_| false), "<img src=\"cid:a");
    }

    #[test]
    fn a_picture_gets_smaller_or_stays_unchanged() {
        let mut pixmap = Pixmap::new(201, 101).expect("a picture");
        for (number, pixel) in pixmap.pixels_mut().iter_mut().enumerate() {
            let value = (number * 37 % 251) as u8;
            *pixel = resvg::tiny_skia::PremultipliedColorU8::from_rgba(value, value, value, 255)
                .expect("a colour");
        }
        let picture = Inline {
            id: "a".into(),
            media_type: "image/png".into(),
            bytes: pixmap.encode_png().expect("a file"),
        };
        let small = halved(&picture);
        let read = Pixmap::decode_png(&small.bytes).expect("a picture");
        assert_eq!((read.width(), read.height()), (101, 51));
        assert!(small.bytes.len() < picture.bytes.len());
        let other = Inline { bytes: b"GIF89a".to_vec(), ..picture };
        assert_eq!(halved(&other).bytes, other.bytes);
    }
}
