//! The table of calls, as Markdown.

use std::fmt::Write;

use super::CLOUDS;
use super::scenarios::Scenario;
use crate::history::CloudKind;
use crate::world::Calls;

/// The marks between which the page has the table.
const BEGIN: &str = "<!-- calls: begin -->\n";
const END: &str = "<!-- calls: end -->\n";

/// Returns a cloud and its mode, as the table names them.
fn name(cloud: CloudKind) -> &'static str {
    match cloud {
        CloudKind::Ec2 => "AWS | attach",
        CloudKind::Ec2Shared => "AWS | shared",
        CloudKind::Gce => "GCE | destination",
        CloudKind::GceTags => "GCE | tags",
        CloudKind::Memory => "memory | none",
    }
}

fn ratio(writes: usize, minimum: usize) -> String {
    let number = |count| f64::from(u32::try_from(count).expect("few calls"));
    match (writes, minimum) {
        (0, 0) => "1.0".to_owned(),
        (_, 0) => "∞".to_owned(),
        _ => format!("{:.1}", number(writes) / number(minimum)),
    }
}

/// Returns the table.
pub(super) fn render(scenarios: &[Scenario], measured: &[[Calls; 4]]) -> String {
    let mut table = "| change | cloud | mode | writes | minimum | ratio | reads | the minimum, and why there are more |\n\
                     | --- | --- | --- | --: | --: | --: | --: | --- |\n"
        .to_owned();
    for (scenario, calls) in scenarios.iter().zip(measured) {
        for (position, (cloud, calls)) in CLOUDS.into_iter().zip(calls).enumerate() {
            let minimum = &scenario.minimum[position];
            let label = if position == 0 { scenario.name } else { "" };
            let excess = scenario.excess.iter().find(|(of, _)| *of == position);
            let excess = excess.map_or(String::new(), |(_, reason)| format!(". {reason}"));
            let (writes, reads) = (calls.writes(), calls.read_count());
            let bold = if writes > minimum.calls { "**" } else { "" };
            let ratio = ratio(writes, minimum.calls);
            _ = writeln!(
                table,
                "| {label} | {} | {writes} | {} | {bold}{ratio}{bold} | {reads} | {}{excess} |",
                name(cloud),
                minimum.calls,
                minimum.derivation,
            );
        }
    }
    table
}

/// Returns the page with this table; none if it has no marks.
pub(super) fn replace(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

/// Returns the rows that have more calls than the minimum and no reason, fewer, or a reason for nothing.
pub(super) fn unexplained(scenarios: &[Scenario], measured: &[[Calls; 4]]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (scenario, calls) in scenarios.iter().zip(measured) {
        for (position, (cloud, calls)) in CLOUDS.into_iter().zip(calls).enumerate() {
            let (writes, minimum) = (calls.writes(), scenario.minimum[position].calls);
            let has_reason = scenario.excess.iter().any(|(of, _)| *of == position);
            if writes < minimum || (writes > minimum) != has_reason {
                wrong.push(format!(
                    "{}, {cloud:?}: {writes} of {minimum}, as {:?}",
                    scenario.name, calls.changes
                ));
            }
        }
    }
    wrong
}
