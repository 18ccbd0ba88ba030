//! Sessions at once, by source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts open sessions of each source; bounded by the number of open sessions.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One admitted session; dropping it frees its place.
#[derive(Debug)]
pub struct Admitted {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// Admits a session of `source`, or `None` when it already has `limit`.
    pub fn enter(&self, source: IpAddr, limit: usize) -> Option<Admitted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_insert(0);
        if *count >= limit.max(1) {
            return None;
        }
        *count += 1;
        Some(Admitted { sources: self.clone(), source })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let sources = Sources::default();
        let ip = "192.0.2.1".parse().unwrap();
        let first = sources.enter(ip, 2).unwrap();
        let _second = sources.enter(ip, 2).unwrap();
        assert!(sources.enter(ip, 2).is_none());
        assert!(sources.enter("192.0.2.2".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(sources.enter(ip, 2).is_some());
    }
}
