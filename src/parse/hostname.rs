//! Hostnames that DNS can hold.

/// Parses a hostname as DNS has it: at least two labels of letters, digits and hyphens, in lower case.
///
/// # Errors
/// If the text is no such hostname.
pub(crate) fn parse_hostname(text: &str) -> Result<String, String> {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| is_alphanumeric(*byte) || *byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.contains('.') && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(80).collect();
    Err(format!("{shown:?} is not a hostname such as game.example.com, in lower case"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostname_has_the_form_that_dns_has() {
        for good in ["game.example.com", "a.b", "xn--bcher-kva.example", "1.example.com"] {
            assert_eq!(parse_hostname(good).as_deref(), Ok(good));
        }
        let long = format!("{}.example.com", "a".repeat(64));
        let bad = ["", "localhost", "a..b", ".a.b", "a.b.", "-a.b", "a-.b", "A.b", "a_b.c", "*.a.b", "a b.c"];
        for bad in bad.into_iter().chain([long.as_str()]) {
            assert!(parse_hostname(bad).is_err(), "{bad:?}");
        }
    }
}
