//! A list of bounded length that spans everything, however long it goes on.

/// A list that never holds more than its capacity and always spans everything that was pushed: when it is full, every other
/// item is dropped and from then on half as many are kept.
#[derive(Clone, Debug)]
pub struct Thinned<T> {
    items: Vec<T>,
    capacity: usize,
    every: u64,
    pushed: u64,
}

impl<T> Thinned<T> {
    /// An empty list of an even `capacity` of at least 2.
    pub fn new(capacity: usize) -> Self {
        Self { items: Vec::new(), capacity: capacity.next_multiple_of(2).max(2), every: 1, pushed: 0 }
    }

    /// Takes `item` in, unless it falls between two that are kept.
    pub fn push(&mut self, item: T) {
        if self.pushed.is_multiple_of(self.every) {
            if self.items.len() >= self.capacity {
                let mut index = 0_u64;
                self.items.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.every *= 2;
            }
            self.items.push(item);
        }
        self.pushed += 1;
    }

    /// What is kept, oldest first.
    pub fn items(&self) -> &[T] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_list_spans_everything_evenly() {
        let mut list = Thinned::new(8);
        for number in 0..1000 {
            list.push(number);
            assert!(list.items().len() <= 8);
        }
        assert_eq!(list.items()[0], 0);
        let steps: Vec<_> = list.items().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|&step| step == steps[0]), "{steps:?}");
        assert!(list.items().last().is_some_and(|&last| last >= 1000 - steps[0]));
    }
}
