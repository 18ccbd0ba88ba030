//! Two of something: one for each side of a conversation.

use super::{Role, Speaker};

/// Names one of two sides.
pub(super) trait Of: Copy {
    /// Whether it is the one who was asked.
    fn second(self) -> bool;
}

impl Of for Speaker {
    fn second(self) -> bool {
        self == Self::Destination
    }
}

impl Of for Role {
    fn second(self) -> bool {
        self == Self::Server
    }
}

/// One `T` for each side.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pair<T> {
    first: T,
    second: T,
}

impl<T> Pair<T> {
    pub(super) fn of(&self, who: impl Of) -> &T {
        if who.second() { &self.second } else { &self.first }
    }

    pub(super) fn of_mut(&mut self, who: impl Of) -> &mut T {
        if who.second() { &mut self.second } else { &mut self.first }
    }

    /// Whether `test` holds for both.
    pub(super) fn all(&self, test: impl Fn(&T) -> bool) -> bool {
        test(&self.first) && test(&self.second)
    }
}
