//! Whole links over loopback: a journal and a store in memory, everything between them real.

mod bulk;
mod carve;
mod chaos;
mod clocks;
mod enrolment;
mod hostile;
mod lab;
mod pipe;
mod records;
mod rotation;
