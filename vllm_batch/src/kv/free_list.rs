//! The blocks that nobody holds, in the order in which they are lent again.

use super::table::BlockId;

/// A doubly linked list through one array: every operation takes constant time, also removal from the middle. The last
/// link belongs to no block; it joins the end to the beginning.
#[derive(Debug)]
pub(super) struct FreeList {
    links: Vec<Link>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

impl FreeList {
    /// All blocks from 0 to `num_blocks`, in this order.
    pub(super) fn new(num_blocks: usize) -> Self {
        let links = (0..=num_blocks).map(|index| Link {
            previous: (if index == 0 { num_blocks } else { index - 1 }) as u32,
            next: (if index == num_blocks { 0 } else { index + 1 }) as u32,
        });
        Self { links: links.collect(), len: num_blocks }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the first block.
    pub(super) fn pop_front(&mut self) -> Option<BlockId> {
        let first = self.links[self.end() as usize].next;
        (first != self.end()).then(|| {
            self.remove(BlockId(first));
            BlockId(first)
        })
    }

    /// Puts a block first; it must not be in the list.
    pub(super) fn push_front(&mut self, id: BlockId) {
        self.insert_before(id, self.links[self.end() as usize].next);
    }

    /// Puts a block last; it must not be in the list.
    pub(super) fn push_back(&mut self, id: BlockId) {
        self.insert_before(id, self.end());
    }

    /// Takes a block out; it must be in the list.
    pub(super) fn remove(&mut self, id: BlockId) {
        let Link { previous, next } = self.links[id.index()];
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.len -= 1;
    }

    /// The blocks in order, at most `limit` of them, so that it ends on a broken list too.
    pub(super) fn iter(&self, limit: usize) -> impl Iterator<Item = BlockId> {
        let next = |id: u32| Some(self.links[id as usize].next).filter(|next| *next != self.end());
        std::iter::successors(next(self.end()), move |id| next(*id)).map(BlockId).take(limit)
    }

    fn insert_before(&mut self, id: BlockId, next: u32) {
        let previous = self.links[next as usize].previous;
        self.links[id.index()] = Link { previous, next };
        self.links[previous as usize].next = id.0;
        self.links[next as usize].previous = id.0;
        self.len += 1;
    }

    fn end(&self) -> u32 {
        (self.links.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_deque(ops in prop::collection::vec((0u8..4, 0u32..6), 0..60)) {
            let mut list = FreeList::new(6);
            let mut model: VecDeque<BlockId> = (0..6).map(BlockId).collect();
            for (op, id) in ops {
                let id = BlockId(id);
                let place = model.iter().position(|other| *other == id);
                match (op, place) {
                    (0, _) => prop_assert_eq!(list.pop_front(), model.pop_front()),
                    (1, None) => { list.push_front(id); model.push_front(id); }
                    (2, None) => { list.push_back(id); model.push_back(id); }
                    (3, Some(place)) => { list.remove(id); model.remove(place); }
                    _ => {}
                }
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.iter(7).collect::<VecDeque<_>>(), model.clone());
            }
        }
    }
}
