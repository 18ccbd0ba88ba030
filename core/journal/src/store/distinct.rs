//! How many different addresses, in bounded memory and whatever the order.
//!
//! Exact as long as they fit a small list; above it a 256-register HyperLogLog (Flajolet et al.,
//! 2007) whose standard error is 1.04 / √256 = 6.5 %. Both forms merge without order, which rebuild
//! equality needs. The hash is unkeyed: a visitor with many addresses could skew the estimate, and
//! gains nothing by it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

const EXACT: usize = super::rows::MAX_SOURCES;
const REGISTERS: usize = 256;

/// A counter of different addresses. In JSON it is the number; read back from there it only knows that.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Distinct {
    /// Sorted; given up once there are more than [`EXACT`].
    exact: Vec<IpAddr>,
    /// Empty as long as `exact` is all there is.
    registers: Vec<u8>,
    /// The number, when it was read from JSON.
    told: u64,
}

impl Distinct {
    /// Counts an address.
    pub fn insert(&mut self, ip: IpAddr) {
        if !self.registers.is_empty() {
            self.register(ip);
            return;
        }
        let Err(place) = self.exact.binary_search(&ip) else { return };
        self.exact.insert(place, ip);
        if self.exact.len() > EXACT {
            self.spill();
        }
    }

    /// Counts all of another counter's addresses.
    pub fn merge(&mut self, other: &Self) {
        for ip in &other.exact {
            self.insert(*ip);
        }
        if other.registers.is_empty() {
            return;
        }
        if self.registers.is_empty() {
            self.spill();
        }
        for (to, from) in self.registers.iter_mut().zip(&other.registers) {
            *to = (*to).max(*from);
        }
    }

    /// The number, exact up to 32.
    pub fn count(&self) -> u64 {
        if self.registers.is_empty() {
            return (self.exact.len() as u64).max(self.told);
        }
        let m = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let zeros = self.registers.iter().filter(|rank| **rank == 0).count();
        let estimate = if raw <= 2.5 * m && zeros > 0 { m * (m / zeros as f64).ln() } else { raw };
        (estimate.round() as u64).max(EXACT as u64 + 1)
    }

    /// Whether [`Self::count`] is exact.
    pub fn is_exact(&self) -> bool {
        self.registers.is_empty()
    }

    fn spill(&mut self) {
        self.registers = vec![0; REGISTERS];
        for ip in std::mem::take(&mut self.exact) {
            self.register(ip);
        }
    }

    fn register(&mut self, ip: IpAddr) {
        let digest = Sha256::digest(super::keys::ip16(ip));
        let mut bytes = digest.iter().copied();
        let index = usize::from(bytes.next().unwrap_or(0));
        let rest = bytes.take(7).fold(0u64, |sum, byte| sum << 8 | u64::from(byte));
        let rank = (rest.leading_zeros().saturating_sub(8) + 1) as u8;
        if let Some(register) = self.registers.get_mut(index) {
            *register = (*register).max(rank);
        }
    }
}

impl Serialize for Distinct {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { self.count().serialize(s) } else { (&self.exact, &self.registers).serialize(s) }
    }
}
impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return Ok(Self { told: u64::deserialize(d)?, ..Self::default() });
        }
        let (exact, registers) = <(Vec<IpAddr>, Vec<u8>)>::deserialize(d)?;
        if !registers.is_empty() && registers.len() != REGISTERS {
            return Err(serde::de::Error::custom("damaged counter"));
        }
        Ok(Self { exact, registers, told: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn filled(range: std::ops::Range<u32>) -> Distinct {
        let mut counter = Distinct::default();
        for n in range {
            counter.insert(Ipv4Addr::from(0x0a00_0000 + n).into());
        }
        counter
    }

    #[test]
    fn exact_then_close() {
        assert_eq!(filled(0..32).count(), 32);
        assert!(filled(0..32).is_exact());
        for n in [33u32, 100, 1_000, 20_000] {
            let count = filled(0..n).count() as f64;
            assert!((count - f64::from(n)).abs() <= f64::from(n) * 0.25, "{n}: {count}");
        }
    }

    #[test]
    fn merging_has_no_order() {
        for (a, b) in [(0..10, 5..15), (0..20, 10..40), (0..300, 100..120), (0..300, 200..600)] {
            let (mut left, mut right) = (filled(a.clone()), filled(b.clone()));
            left.merge(&filled(b.clone()));
            right.merge(&filled(a.clone()));
            assert_eq!(left, right);
            assert_eq!(left, filled(a.start..b.end.max(a.end)));
        }
    }
}
