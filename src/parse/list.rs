//! Lists: splits user-written text into entries, within bounds that keep the work and the messages small.

/// Maximum entries of a list: a port range or a wider CIDR takes the place of many.
pub(crate) const MAX_ENTRIES: usize = 500;

/// Maximum bytes of an entry: the longest CIDR takes 49, a port name 15.
const MAX_ENTRY_BYTES: usize = 64;

/// Splits at commas, and trims the entries. An entry can be empty, which every parser of entries rejects.
///
/// # Errors
/// If the text has no entries, or too many, or one is too long.
pub(crate) fn split_by_commas(text: &str) -> Result<Vec<&str>, String> {
    if text.trim().is_empty() {
        return Err("the list is empty".to_owned());
    }
    check_bounds(text.split(',').map(str::trim))
}

/// Splits at runs of spaces and commas.
///
/// # Errors
/// As [`split_by_commas`].
pub(crate) fn split_by_spaces_or_commas(text: &str) -> Result<Vec<&str>, String> {
    let separator = |c: char| c.is_whitespace() || c == ',';
    let entries = check_bounds(text.split(separator).filter(|entry| !entry.is_empty()))?;
    if entries.is_empty() { Err("the list is empty".to_owned()) } else { Ok(entries) }
}

fn check_bounds<'a>(entries: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>, String> {
    let entries: Vec<&str> = entries.take(MAX_ENTRIES + 1).collect();
    if entries.len() > MAX_ENTRIES {
        return Err(format!("the list has more than {MAX_ENTRIES} entries; write fewer, wider ranges"));
    }
    match entries.iter().find(|entry| entry.len() > MAX_ENTRY_BYTES) {
        None => Ok(entries),
        Some(entry) => {
            let start: String = entry.chars().take(20).collect();
            Err(format!("the entry that starts with {start:?} is longer than any valid entry"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_entries_is_rejected() {
        for text in ["", " ", "\t\n"] {
            assert!(split_by_commas(text).is_err(), "{text:?}");
        }
        for text in ["", " ", ",", " , ,"] {
            assert!(split_by_spaces_or_commas(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn list_beyond_the_limit_is_rejected() {
        let list = |count: usize| vec!["80"; count].join(",");
        assert_eq!(split_by_commas(&list(MAX_ENTRIES)).map(|entries| entries.len()), Ok(MAX_ENTRIES));
        assert_eq!(
            split_by_spaces_or_commas(&list(MAX_ENTRIES)).map(|entries| entries.len()),
            Ok(MAX_ENTRIES)
        );
        assert!(split_by_commas(&list(MAX_ENTRIES + 1)).is_err());
        assert!(split_by_spaces_or_commas(&list(MAX_ENTRIES + 1)).is_err());
    }

    #[test]
    fn long_entry_is_rejected_without_being_repeated() {
        for list in [split_by_commas, split_by_spaces_or_commas] {
            let error = list(&"é".repeat(100_000)).unwrap_err();
            assert!(error.len() < 200, "{error}");
        }
    }
}
