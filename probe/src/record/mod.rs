//! Keeps what was measured: a journal that is sealed into the day files of the sample lake.
