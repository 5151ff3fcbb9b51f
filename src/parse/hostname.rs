//! Hostnames.

/// A hostname as DNS takes it: labels of letters, digits and hyphens, at least two, in lower case.
///
/// # Errors
/// If it is none; the text says why.
pub(crate) fn hostname(text: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.contains('.') && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(80).collect();
    Err(format!("{shown:?} is not a hostname such as game.example.com, in lower case"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_is_what_dns_takes() {
        for good in ["game.example.com", "a.b", "xn--bcher-kva.example", "1.example.com"] {
            assert_eq!(hostname(good).as_deref(), Ok(good));
        }
        let long = format!("{}.example.com", "a".repeat(64));
        let bad = ["", "localhost", "a..b", ".a.b", "a.b.", "-a.b", "a-.b", "A.b", "a_b.c", "*.a.b", "a b.c"];
        for bad in bad.into_iter().chain([long.as_str()]) {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
    }
}
