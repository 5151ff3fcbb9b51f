//! Lets openings and closings alternate.

use crate::{Effect, Step};

/// Reorders steps so that openings and closings alternate as far as they do not wait for each other: where
/// calls are scarce, neither kind starves the other.
///
/// Post-condition: the same steps, each of which still waits only for earlier ones; two steps of the same
/// effect keep their order.
pub(super) fn interleave<R>(steps: Vec<Step<R>>) -> Vec<Step<R>> {
    let mut queues = [Vec::new(), Vec::new()];
    let mut followers = vec![Vec::new(); steps.len()];
    for (position, step) in steps.iter().enumerate() {
        queues[usize::from(step.effect == Effect::Close)].push(position);
        for other in &step.depends_on {
            followers[other.step].push(position);
        }
    }
    // Counted, not looked up: a closing can wait for thousands of openings.
    let mut waits_for: Vec<usize> = steps.iter().map(|step| step.depends_on.len()).collect();
    let mut next = [0, 0];
    let mut new_positions = vec![usize::MAX; steps.len()];
    let mut turn = 0;
    for new_position in 0..steps.len() {
        let ready = |queue: usize| {
            let position = *queues[queue].get(next[queue])?;
            (waits_for[position] == 0).then_some(position)
        };
        // The lowest position left is always ready: it waits only for lower ones.
        let queue = if ready(turn).is_some() { turn } else { 1 - turn };
        let Some(position) = ready(queue) else { break };
        new_positions[position] = new_position;
        for &follower in &followers[position] {
            waits_for[follower] -= 1;
        }
        next[queue] += 1;
        turn = 1 - queue;
    }
    reorder(steps, &new_positions)
}

/// Moves every step to its new position, and its dependencies with it.
fn reorder<R>(steps: Vec<Step<R>>, new_positions: &[usize]) -> Vec<Step<R>> {
    let mut reordered: Vec<(usize, Step<R>)> = steps
        .into_iter()
        .zip(new_positions)
        .map(|(mut step, &new_position)| {
            for dependency in &mut step.depends_on {
                dependency.step = new_positions[dependency.step];
            }
            step.depends_on.sort_unstable();
            (new_position, step)
        })
        .collect();
    reordered.sort_by_key(|(new_position, _)| *new_position);
    reordered.into_iter().map(|(_, step)| step).collect()
}
