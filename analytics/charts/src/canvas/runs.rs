//! Groups elements of the same style into one path or group, even with others between them, as long
//! as the painting order of overlapping elements stays the same.

use super::{At, BOLD, Element, FINE, Look, Shape, text_width};

/// Maximum comparisons of positions in a drawing; beyond that, only consecutive elements are
/// merged.
const COMPARISONS: usize = 1_000_000;

/// The area that an element paints: left, top, right and bottom, in tenths of a pixel.
#[derive(Debug, Clone, Copy)]
struct Place(i64, i64, i64, i64);

impl Place {
    fn of(element: &Element) -> Self {
        let (left, top, right, bottom) = match &element.shape {
            Shape::Rect(x, y, width, height) => (*x, *y, x + width, y + height),
            Shape::Points(points) => {
                points.iter().fold((i64::MAX, i64::MAX, i64::MIN, i64::MIN), |place, (x, y)| {
                    (place.0.min(*x), place.1.min(*y), place.2.max(*x), place.3.max(*y))
                })
            }
            Shape::Text(text, x, y) => return Self::of_text(&element.look, text, (*x, *y)),
        };
        let wide = match element.look {
            // A mitred corner reaches at most twice the line width, a round one less.
            Look::Line(_, width, ..) => (width * FINE * 2.0).ceil() as i64,
            Look::Disc(_, radius) => (radius * FINE).ceil() as i64,
            Look::Area(_) | Look::Text(..) => 0,
        };
        Self(
            left.saturating_sub(wide),
            top.saturating_sub(wide),
            right.saturating_add(wide),
            bottom.saturating_add(wide),
        )
    }

    /// Uses the widths of the font that pages embed.
    fn of_text(look: &Look, text: &str, (x, y): (i64, i64)) -> Self {
        let Look::Text(_, size, at, _) = look else {
            return Self(i64::MIN, i64::MIN, i64::MAX, i64::MAX);
        };
        let wide = (text_width(text, size * BOLD) * FINE) as i64;
        let tall = (size * FINE) as i64;
        let left = match at {
            At::Start => x,
            At::Middle => x - wide / 2,
            At::End => x - wide,
        };
        Self(left, y - tall, left + wide, y + tall / 4)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0 < other.2 && other.0 < self.2 && self.1 < other.3 && other.1 < self.3
    }
}

/// Elements of the same style, with the area that each paints.
struct Run<'a> {
    elements: Vec<&'a Element>,
    places: Vec<Place>,
}

/// Returns whether an element may share a path or group. A path has only one title, so elements
/// with their own title stay separate; texts and discs keep their titles within a group.
fn is_sharing(element: &Element) -> bool {
    match element.look {
        Look::Area(_) | Look::Line(..) => element.title.is_empty(),
        Look::Disc(..) | Look::Text(..) => true,
    }
}

/// Returns the elements in writing order. Each is merged with others of its style, unless it would
/// then be painted below an element that it covers.
pub(super) fn alike(elements: &[Element]) -> Vec<Vec<&Element>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut left = COMPARISONS;
    for element in elements {
        let place = Place::of(element);
        let found =
            is_sharing(element).then(|| joined(&runs, element, &place, &mut left)).flatten();
        match found.and_then(|found| runs.get_mut(found)) {
            Some(run) => {
                run.elements.push(element);
                run.places.push(place);
            }
            None => runs.push(Run { elements: vec![element], places: vec![place] }),
        }
    }
    runs.into_iter().map(|run| run.elements).collect()
}

/// Returns the run that an element joins.
fn joined(runs: &[Run<'_>], element: &Element, place: &Place, left: &mut usize) -> Option<usize> {
    let is_like = |run: &Run<'_>| {
        let first = run.elements.first();
        first.is_some_and(|first| is_sharing(first) && first.look == element.look)
    };
    let last = runs.len().checked_sub(1)?;
    if is_like(&runs[last]) {
        return Some(last);
    }
    for (index, run) in runs.iter().enumerate().rev() {
        *left = left.checked_sub(run.places.len())?;
        let overlaps = run.places.iter().any(|other| other.overlaps(place));
        if is_like(run) {
            // Crossing outlines within one path could leave a hole.
            let is_safe = !overlaps || !matches!(element.look, Look::Area(_));
            return is_safe.then_some(index);
        }
        if overlaps {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        canvas::{At, Canvas},
        palette::Ink,
    };

    fn runs_of(pen: impl FnOnce(&mut Canvas)) -> Vec<usize> {
        let mut canvas = Canvas::default();
        pen(&mut canvas);
        alike(&canvas.paper.elements).iter().map(Vec::len).collect()
    }

    #[test]
    fn similar_elements_are_joined_past_others_that_they_do_not_touch() {
        let ticks = runs_of(|canvas| {
            for tick in 0..9 {
                let x = f64::from(tick) * 60.0;
                canvas.line((x, 100.0), (x, 104.0), Ink::Mist, 1.0);
                canvas.text("Jan", At::Middle.point(x, 120.0), Ink::Grey, 12.0);
            }
        });
        assert_eq!(ticks, [9, 9]);
    }

    #[test]
    fn covering_elements_stay_above_covered_ones() {
        let covered = runs_of(|canvas| {
            canvas.rect((0.0, 0.0), (10.0, 10.0), Ink::Calm);
            canvas.rect((5.0, 5.0), (10.0, 10.0), Ink::Failed);
            canvas.rect((8.0, 8.0), (10.0, 10.0), Ink::Calm);
            // Far from all other elements.
            canvas.rect((80.0, 8.0), (10.0, 10.0), Ink::Calm);
            canvas.rect((90.0, 90.0), (10.0, 10.0), Ink::Failed);
        });
        assert_eq!(covered, [1, 2, 2]);
        let titled = runs_of(|canvas| {
            canvas.rect((0.0, 0.0), (1.0, 1.0), Ink::Calm);
            canvas.rect((5.0, 0.0), (1.0, 1.0), Ink::Calm);
            canvas.title("its own");
            canvas.rect((9.0, 0.0), (1.0, 1.0), Ink::Calm);
        });
        assert_eq!(titled, [2, 1]);
    }

    #[test]
    fn very_many_marks_are_written_in_reasonable_time() {
        let marks = runs_of(|canvas| {
            for mark in 0..40_000 {
                let ink = if mark % 2 == 0 { Ink::Calm } else { Ink::Failed };
                canvas.rect((f64::from(mark), 0.0), (0.5, 10.0), ink);
            }
        });
        assert_eq!(marks.iter().sum::<usize>(), 40_000);
        assert!(marks.len() > 2, "comparisons are limited");
    }
}
