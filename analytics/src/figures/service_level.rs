//! Service levels: targets over periods, met or missed, and the error budget.
