//! The controller's log and summary.
