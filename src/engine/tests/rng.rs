//! Reproducible random numbers.

use std::ops::RangeInclusive;

/// Steele, Lea and Flood's `splitmix64`: ten lines, and good enough to select tests with.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }

    /// One item of a slice that is not empty.
    pub(crate) fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.next() as usize % items.len()]
    }

    /// At least one of the items, in their order.
    pub(crate) fn subset<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let always = self.next() as usize % items.len();
        let mut at = 0..items.len();
        let chosen = items.iter().filter(|_| at.next() == Some(always) || self.chance(500));
        chosen.cloned().collect()
    }
}
