//! The links of Markdown lead to files that there are, and to headings in them.

use crate::source::{files, root};

/// Returns the links of a text that lead into the checkout, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (at, start) in line.match_indices("](") {
            let target = line[at + start.len()..].split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number + 1, target));
            }
        }
    }
    found
}

/// Returns a heading as the fragment of a link to it.
fn fragment(heading: &str) -> String {
    let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns true if a text has a heading with that fragment.
fn has_heading(text: &str, wanted: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#')).any(|heading| fragment(heading) == wanted)
}

/// Returns the links of a file that lead nowhere. `read` gives a file's text, by its path from the checkout.
fn broken(path: &str, text: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_broken = |target: &str| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let found = if file.is_empty() { Some(text.to_owned()) } else { read(&format!("{folder}/{file}")) };
        found.is_none_or(|found| !heading.is_empty() && !has_heading(&found, heading))
    };
    let broken = links(text).into_iter().filter(|(_, target)| is_broken(target));
    broken.map(|(line, target)| format!("{path}:{line}: {target} leads nowhere")).collect()
}

#[test]
fn links_in_markdown_lead_somewhere() {
    let read = |path: &str| {
        let path = root().join(path.trim_start_matches('/'));
        path.exists().then(|| std::fs::read_to_string(path).unwrap_or_default())
    };
    let files = files("", ".md");
    let found: Vec<String> = files.iter().flat_map(|(path, text)| broken(path, text, &read)).collect();
    assert!(found.is_empty(), "{} to mend:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_broken_link_is_found() {
    let read = |path: &str| (path == "docs/a.md").then(|| "# Its `own` name\n".to_owned());
    let found = |link: &str| broken("docs/b.md", &format!("# Here\n[x]({link})"), &read).len();
    for (link, count) in [
        ("a.md", 0),
        ("a.md#its-own-name", 0),
        ("a.md#another", 1),
        ("c.md", 1),
        ("#here", 0),
        ("#there", 1),
        ("https://example.com/c.md", 0),
    ] {
        assert_eq!(found(link), count, "{link}");
    }
}
