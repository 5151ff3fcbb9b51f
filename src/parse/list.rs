//! Lists: the entries of a text that people wrote, within bounds that keep the work and the messages small.

/// More entries than this are refused: a port range or a wider CIDR says the same in one.
pub(crate) const MOST: usize = 500;

/// Longer entries than this are refused unread: the longest CIDR takes 49 bytes, a port name 15.
const LONGEST: usize = 64;

/// The entries between commas, without the space around them. An entry can be empty, which no reader takes.
///
/// # Errors
/// If there is none, or too many, or one is too long.
pub(crate) fn by_commas(text: &str) -> Result<Vec<&str>, String> {
    if text.trim().is_empty() {
        return Err("the list is empty".to_owned());
    }
    bounded(text.split(',').map(str::trim))
}

/// The entries between spaces or commas, however many stand together.
///
/// # Errors
/// As [`by_commas`].
pub(crate) fn by_spaces_or_commas(text: &str) -> Result<Vec<&str>, String> {
    let separator = |c: char| c.is_whitespace() || c == ',';
    let entries = bounded(text.split(separator).filter(|entry| !entry.is_empty()))?;
    if entries.is_empty() { Err("the list is empty".to_owned()) } else { Ok(entries) }
}

fn bounded<'a>(entries: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>, String> {
    let entries: Vec<&str> = entries.take(MOST + 1).collect();
    if entries.len() > MOST {
        return Err(format!(
            "the list has more than {MOST} entries; write ranges that say the same in fewer"
        ));
    }
    match entries.iter().find(|entry| entry.len() > LONGEST) {
        None => Ok(entries),
        Some(entry) => {
            let start: String = entry.chars().take(20).collect();
            Err(format!("the entry that starts with {start:?} is longer than any that is valid"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_entry_is_refused() {
        for text in ["", " ", "\t\n"] {
            assert!(by_commas(text).is_err(), "{text:?}");
        }
        for text in ["", " ", ",", " , ,"] {
            assert!(by_spaces_or_commas(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn five_hundred_entries_are_taken_and_one_more_is_not() {
        let list = |count: usize| vec!["80"; count].join(",");
        assert_eq!(by_commas(&list(MOST)).map(|entries| entries.len()), Ok(MOST));
        assert_eq!(by_spaces_or_commas(&list(MOST)).map(|entries| entries.len()), Ok(MOST));
        assert!(by_commas(&list(MOST + 1)).is_err());
        assert!(by_spaces_or_commas(&list(MOST + 1)).is_err());
    }

    #[test]
    fn a_long_entry_is_refused_without_repeating_it() {
        for list in [by_commas, by_spaces_or_commas] {
            let error = list(&"é".repeat(100_000)).unwrap_err();
            assert!(error.len() < 200, "{error}");
        }
    }
}
