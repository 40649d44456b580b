//! Decodes rows of a result: Arrow streams with one column of texts.

use std::{io::Cursor, panic};

use polars_arrow::{
    array::{Array, Utf8Array, Utf8ViewArray},
    io::ipc::read::{StreamReader, StreamState, read_stream_metadata},
};

/// Returns the texts of the only column of an Arrow stream.
///
/// # Errors
/// The stream is damaged, or has other columns or nulls.
pub(crate) fn texts(data: &[u8]) -> Result<Vec<String>, String> {
    // polars-arrow 0.55 checks most of a stream, but unwraps some errors, such as that of
    // a batch whose list of columns is missing.
    panic::catch_unwind(|| decode(data)).unwrap_or_else(|_| Err(damaged("its parts don't match")))
}

fn decode(data: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = Cursor::new(data);
    let metadata = read_stream_metadata(&mut reader).map_err(damaged)?;
    if metadata.schema.len() != 1 {
        return Err(format!("a result has {} columns instead of one", metadata.schema.len()));
    }
    let mut values = Vec::new();
    for state in StreamReader::new(reader, metadata, None) {
        let StreamState::Some(batch) = state.map_err(damaged)? else {
            // A stream without its end mark. The number of rows shows whether any is missing.
            break;
        };
        let column = batch.columns().first().ok_or("a result has no column")?;
        append(column.as_ref(), &mut values)?;
    }
    Ok(values)
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("a batch of rows is damaged: {error}")
}

/// Appends the texts of a column.
fn append(column: &dyn Array, values: &mut Vec<String>) -> Result<(), String> {
    if column.null_count() > 0 {
        return Err("a result has nulls".to_owned());
    }
    let any = column.as_any();
    if let Some(texts) = any.downcast_ref::<Utf8Array<i32>>() {
        values.extend(texts.values_iter().map(str::to_owned));
    } else if let Some(texts) = any.downcast_ref::<Utf8Array<i64>>() {
        // With spark.sql.execution.arrow.useLargeVarTypes.
        values.extend(texts.values_iter().map(str::to_owned));
    } else if let Some(texts) = any.downcast_ref::<Utf8ViewArray>() {
        values.extend(texts.values_iter().map(str::to_owned));
    } else {
        return Err(format!("a result has a column of the type {:?}", column.dtype()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scripted::arrow;

    #[test]
    fn texts_are_decoded() {
        for texts_in in [vec![], vec!["a"], vec!["", "\t", "ä€😀", "{\"x\":1}"]] {
            assert_eq!(texts(&arrow(&texts_in)).expect("decoded"), texts_in);
        }
    }

    #[test]
    fn every_cut_gives_an_error_or_fewer_rows() {
        let whole = arrow(&["one", "two", "three"]);
        for length in 0..whole.len() {
            if let Ok(found) = texts(&whole[..length]) {
                assert!(found.is_empty() || found.len() == 3, "{length}: {found:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..400, byte: u8, more in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = arrow(&["one", "two", "three"]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.extend(more);
            let _ = texts(&bytes);
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = texts(&bytes);
        }
    }
}
