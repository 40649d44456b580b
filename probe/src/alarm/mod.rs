//! Alarms: when one rises and clears, and what is done then.
