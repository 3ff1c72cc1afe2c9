//! Objects by a key of 128 bits, for as many objects as a directory has.
//!
//! Owns how little memory that takes: 24 bytes for each key, where a hash table of the standard library takes 27 to 54,
//! and half as much again while it grows. Keys come one by one and in no order, so they wait in a table and are merged
//! in place into one sorted list when there are many. For as many as most directories have there is only the table,
//! because a search in a long list costs more than everything else that is done with a key.

use std::collections::HashMap;

use crate::identities::{ObjectId, handles::Hash};

/// New keys that wait: as many as fit a table of 2¹⁸ places (6.5 MiB).
const RECENT_MAX: usize = 229_376;
/// The list grows by this share of itself, not by doubling.
const GROWTH: usize = 8;

pub(super) struct Keyed {
    recent: HashMap<Hash, ObjectId>,
    recent_max: usize,
    /// Ascending, each key once.
    sorted: Vec<(Hash, ObjectId)>,
}

impl Default for Keyed {
    fn default() -> Self {
        Self { recent: HashMap::new(), recent_max: RECENT_MAX, sorted: Vec::new() }
    }
}

impl Keyed {
    pub(super) fn get(&self, key: &Hash) -> Option<ObjectId> {
        self.recent.get(key).copied().or_else(|| self.sorted.get(self.place(key)?).map(|(_, id)| *id))
    }

    /// Sets what a key stands for; `false` when it was there already.
    pub(super) fn insert(&mut self, key: Hash, id: ObjectId) -> bool {
        if let Some(at) = self.place(&key)
            && let Some((_, slot)) = self.sorted.get_mut(at)
        {
            *slot = id;
            return false;
        }
        let is_new = self.recent.insert(key, id).is_none();
        if self.recent.len() >= self.recent_max {
            self.merge();
        }
        is_new
    }

    pub(super) fn len(&self) -> usize {
        self.recent.len() + self.sorted.len()
    }

    fn place(&self, key: &Hash) -> Option<usize> {
        self.sorted.binary_search_by(|(other, _)| other.cmp(key)).ok()
    }

    /// From the back, so that the list needs no second place while it grows.
    fn merge(&mut self) {
        let mut new: Vec<(Hash, ObjectId)> = self.recent.drain().collect();
        new.sort_unstable();
        let old = self.sorted.len();
        let room = self.sorted.capacity() - old;
        if room < new.len() {
            self.sorted.reserve_exact(new.len().max(old / GROWTH));
        }
        self.sorted.resize(old + new.len(), ([0; 16], 0));
        let (mut from, mut to) = (old, self.sorted.len());
        while let Some(next) = new.last().copied() {
            to -= 1;
            let before = from.checked_sub(1).and_then(|at| self.sorted.get(at)).copied();
            let placed = match before {
                Some(before) if before.0 > next.0 => {
                    from -= 1;
                    before
                }
                _ => {
                    new.pop();
                    next
                }
            };
            if let Some(slot) = self.sorted.get_mut(to) {
                *slot = placed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identities::{SubjectType, handles};

    #[test]
    fn it_answers_as_a_hash_table_does() {
        let hash = |number: u64| handles::of_id(1, SubjectType::Identity, &number.to_string()).0;
        let (mut keyed, mut table) = (Keyed { recent_max: 10_000, ..Keyed::default() }, HashMap::new());
        let mut seed = 1_u64;
        for id in 0..200_000_i64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // A third of them come twice.
            let key = hash(seed % 300_000);
            assert_eq!(keyed.insert(key, id), table.insert(key, id).is_none());
            let other = hash(seed / 7 % 300_000);
            assert_eq!(keyed.get(&other), table.get(&other).copied());
        }
        assert_eq!(keyed.len(), table.len());
        assert!(keyed.sorted.len() > 2 * keyed.recent_max, "it was merged more than once");
        assert!(table.iter().all(|(key, id)| keyed.get(key) == Some(*id)));
        assert!(keyed.sorted.is_sorted());
    }
}
