//! Fair queues: whoever sends much waits behind his own, not others behind him.

use std::collections::VecDeque;

/// A queue, or a queue of queues.
pub(crate) trait Queue {
    /// What waits.
    type Item;

    /// How many wait.
    fn len(&self) -> usize;

    /// Takes out whose turn it is.
    fn next(&mut self) -> Option<Self::Item>;

    /// Takes out the one that is refused when there are too many: the newest of the longest line.
    fn cut(&mut self) -> Option<Self::Item>;

    /// Forgets those for whom `keep` says no.
    fn retain(&mut self, keep: &impl Fn(&Self::Item) -> bool);
}

/// First come, first served.
impl<T> Queue for VecDeque<T> {
    type Item = T;

    fn len(&self) -> usize {
        VecDeque::len(self)
    }

    fn next(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn cut(&mut self) -> Option<T> {
        self.pop_back()
    }

    fn retain(&mut self, keep: &impl Fn(&T) -> bool) {
        VecDeque::retain(self, keep);
    }
}

/// A line for each key; the lines take turns. Meant for some hundred items: looking for a line is a walk.
pub(crate) struct Turns<K, Q> {
    /// None is empty. The first is next, and goes to the end when one of it was taken out.
    lines: VecDeque<(K, Q)>,
}

impl<K, Q> Default for Turns<K, Q> {
    fn default() -> Self {
        Self { lines: VecDeque::new() }
    }
}

impl<K: PartialEq, Q: Queue + Default> Turns<K, Q> {
    /// The line of a key, for adding to it at once.
    pub(crate) fn line(&mut self, key: K) -> &mut Q {
        let index = self.lines.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            self.lines.push_back((key, Q::default()));
            self.lines.len() - 1
        });
        &mut self.lines[index].1
    }
}

impl<K, Q: Queue> Queue for Turns<K, Q> {
    type Item = Q::Item;

    fn len(&self) -> usize {
        self.lines.iter().map(|(_, line)| line.len()).sum()
    }

    fn next(&mut self) -> Option<Q::Item> {
        let (key, mut line) = self.lines.pop_front()?;
        let item = line.next();
        if line.len() > 0 {
            self.lines.push_back((key, line));
        }
        item
    }

    fn cut(&mut self) -> Option<Q::Item> {
        // Of lines with the same length the last, which waits for the shortest time.
        let (index, _) = self.lines.iter().enumerate().max_by_key(|(_, (_, line))| line.len())?;
        let item = self.lines[index].1.cut();
        if self.lines[index].1.len() == 0 {
            self.lines.remove(index);
        }
        item
    }

    fn retain(&mut self, keep: &impl Fn(&Q::Item) -> bool) {
        for (_, line) in &mut self.lines {
            line.retain(keep);
        }
        self.lines.retain(|(_, line)| line.len() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Turns<char, Turns<u8, VecDeque<&'static str>>>;

    /// Items such as `a1` wait in line `a`, and there in line `1`.
    fn queue(items: &[&'static str]) -> Lines {
        let mut lines = Lines::default();
        for item in items {
            let mut key = item.chars();
            let (outer, inner) = (key.next().unwrap(), key.next().unwrap() as u8);
            lines.line(outer).line(inner).push_back(item);
        }
        lines
    }

    fn order(mut lines: Lines) -> Vec<&'static str> {
        std::iter::from_fn(|| lines.next()).collect()
    }

    #[test]
    fn lines_take_turns_and_so_do_lines_in_lines() {
        for (arrived, served) in [
            (vec![], vec![]),
            (vec!["a1", "a1x", "a1y"], vec!["a1", "a1x", "a1y"]),
            (vec!["a1", "a1x", "a1y", "b1"], vec!["a1", "b1", "a1x", "a1y"]),
            (vec!["a1", "a1x", "a1y", "a2"], vec!["a1", "a2", "a1x", "a1y"]),
            (vec!["a1", "a1x", "a2", "b1", "b1x", "b1y"], vec!["a1", "b1", "a2", "b1x", "a1x", "b1y"]),
        ] {
            assert_eq!(order(queue(&arrived)), served, "{arrived:?}");
        }
    }

    #[test]
    fn one_who_comes_back_waits_for_the_others() {
        let mut lines = queue(&["a1", "b1"]);
        assert_eq!(lines.next(), Some("a1"));
        lines.line('a').line(b'1').push_back("a1x");
        assert_eq!(order(lines), ["b1", "a1x"]);
    }

    #[test]
    fn the_newest_of_the_longest_line_is_cut() {
        for (arrived, cut) in [
            (vec![], None),
            (vec!["a1", "a1x", "b1"], Some("a1x")),
            (vec!["a1", "a2", "a1x", "b1", "b2"], Some("a1x")),
            (vec!["a1", "b1", "c1"], Some("c1")),
            (vec!["a1", "a2", "a3"], Some("a3")),
        ] {
            let mut lines = queue(&arrived);
            assert_eq!(lines.cut(), cut, "{arrived:?}");
            assert_eq!(lines.len(), arrived.len().saturating_sub(1));
        }
    }

    #[test]
    fn who_has_gone_leaves_no_line_behind() {
        let mut lines = queue(&["a1", "a2", "b1"]);
        lines.retain(&|item| *item != "a2" && *item != "b1");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines.lines.len(), 1);
        assert_eq!(order(lines), ["a1"]);
    }
}
