//! The detectors, one a file; each has its line in [`crate::DETECTORS`].

pub(crate) mod egress;
pub(crate) mod port_mismatch;
pub(crate) mod reconcile;
pub(crate) mod remote_service;
pub(crate) mod scan;
pub(crate) mod weak_crypto;
