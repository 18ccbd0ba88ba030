//! Harness of the scenarios and of `make run`, `make demo` and `make bench`: namespace lab, real daemons as child
//! processes, real clients as visitors. Traffic stays on loopback or in namespaces made here.

// Indexing JSON values that are not there gives null; nothing else is indexed.
#![allow(clippy::indexing_slicing)]

pub mod bench;
pub mod demo;
pub mod faults;
pub mod lab;
pub mod process;
pub mod sensor;
pub mod visitors;
pub mod world;
pub mod world_sensor;

/// What went wrong, in words for a person.
pub type Result<T> = anyhow::Result<T>;
