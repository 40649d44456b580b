//! Does the same work on many items, on all cores, with the results in the order of the items.
//!
//! It does not use rayon, although polars and the typesetter include it. Items are started in
//! order, so that the first of several corrupt files is reported. And a thread that waits for
//! nested work takes up no other work meanwhile, which would keep two sections, or two media, in
//! memory and on one stack.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Number of threads for work that mostly waits for a network.
pub(crate) const WAITING: usize = 16;

/// Limit of the number of threads; none if zero.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Limits the number of threads for all work of this process, for example to the cores that a
/// scheduler has given it.
pub fn limit(threads: usize) {
    LIMIT.store(threads, Ordering::Relaxed);
}

/// Returns the number of threads.
pub(crate) fn threads() -> usize {
    match LIMIT.load(Ordering::Relaxed) {
        0 => thread::available_parallelism().map_or(1, usize::from),
        limit => limit,
    }
}

/// Maps each item with `work` on this many threads.
pub(crate) fn map_on<I: Sync, T: Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    run(threads, items, || (), |(), item| work(item))
}

/// Maps each item with `work`.
pub fn map<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    map_with(items, || (), |(), item| work(item))
}

/// Like [`map`], with reusable scratch state for each thread.
pub fn map_with<I: Sync, S, T: Send>(
    items: &[I],
    place: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &I) -> T + Sync,
) -> Vec<T> {
    run(threads(), items, place, work)
}

fn run<I: Sync, S, T: Send>(
    threads: usize,
    items: &[I],
    place: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &I) -> T + Sync,
) -> Vec<T> {
    let threads = threads.min(items.len());
    if threads < 2 {
        let mut place = place();
        return items.iter().map(|item| work(&mut place, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut place = place();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = work(&mut place, item);
                    // A panic elsewhere ends the scope anyway.
                    if let Ok(mut done) = done.lock() {
                        done.push((index, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_in_order() {
        let items: Vec<u64> = (0..1_000).collect();
        let squares = super::map(&items, |item| item * item);
        assert!(squares.iter().zip(&items).all(|(square, item)| *square == item * item));
        assert!(super::map(&[], |item: &u64| *item).is_empty());
    }
}
