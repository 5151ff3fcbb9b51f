//! Names as Kubernetes has them.

/// Returns true if the text is a DNS subdomain in lower case (RFC 1123), as most names of objects are, and
/// all that matter here.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(is_allowed) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Returns true if the text is the name of a kind.
pub(crate) fn is_kind(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdomain_and_kind_have_kubernetes_forms() {
        for good in ["a", "web-1", "apps", "ip-10-0-0-1.ec2.internal", "0"] {
            assert!(is_dns_subdomain(good), "{good}");
        }
        let long = "a".repeat(254);
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a/b", "a\n", "é", &long] {
            assert!(!is_dns_subdomain(bad), "{bad:?}");
        }
        for (kind, expected) in
            [("Pod", true), ("HTTPRoute2", true), ("", false), ("2A", false), ("A.b", false), ("A\n", false)]
        {
            assert_eq!(is_kind(kind), expected, "{kind:?}");
        }
    }
}
