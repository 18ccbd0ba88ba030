//! The per-node seed and what is drawn from it.

use sha2::{Digest, Sha256};

/// Thirty-two secret bytes; equal seed and label, equal draw.
#[derive(Clone)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// The seed of a named part.
    pub fn derive(&self, label: &str) -> Seed {
        Seed(Sha256::new().chain_update(self.0).chain_update([0]).chain_update(label.as_bytes()).finalize().into())
    }

    /// A number below `bound` (0 when `bound` is 0) for a label.
    pub fn below(&self, label: &str, bound: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.derive(label).0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]).checked_rem(bound).unwrap_or(0)
    }

    /// One of `choices` for a label.
    pub fn choose<'a, T>(&self, label: &str, choices: &'a [T]) -> Option<&'a T> {
        choices.get(usize::try_from(self.below(label, choices.len() as u64)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_stable_and_apart() {
        let seed = Seed([7; 32]);
        assert_eq!(seed.below("a", 1000), seed.below("a", 1000));
        assert_ne!(seed.derive("a").0, seed.derive("b").0);
        assert_eq!(seed.below("a", 0), 0);
        assert!(seed.choose("x", &["only"]).is_some());
    }
}
