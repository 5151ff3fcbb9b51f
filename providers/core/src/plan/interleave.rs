//! Openings and closings take turns.

use crate::{Effect, Step};

/// Lets openings and closings interleave as far as they do not wait for each other, so that where calls are
/// scarce neither starves.
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
    let mut place = vec![usize::MAX; steps.len()];
    let mut turn = 0;
    for moved in 0..steps.len() {
        let ready = |queue: usize| {
            let position = *queues[queue].get(next[queue])?;
            (waits_for[position] == 0).then_some(position)
        };
        // The lowest position left is always ready: it waits only for lower ones.
        let queue = if ready(turn).is_some() { turn } else { 1 - turn };
        let Some(position) = ready(queue) else { break };
        place[position] = moved;
        for &follower in &followers[position] {
            waits_for[follower] -= 1;
        }
        next[queue] += 1;
        turn = 1 - queue;
    }
    let mut placed: Vec<(usize, Step<R>)> = steps
        .into_iter()
        .zip(&place)
        .map(|(mut step, &moved)| {
            for dependency in &mut step.depends_on {
                dependency.step = place[dependency.step];
            }
            step.depends_on.sort_unstable();
            (moved, step)
        })
        .collect();
    placed.sort_by_key(|(moved, _)| *moved);
    placed.into_iter().map(|(_, step)| step).collect()
}
