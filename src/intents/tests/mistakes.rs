//! Mistakes in annotations, some four hundred kinds, which the end-to-end tests use too.

/// Texts that are no port of the pod, or no port at all.
pub(crate) const NOT_PORTS: [&str; 52] = [
    "",
    " ",
    "\t",
    "0",
    "65536",
    "99999",
    "99999999999999999999",
    "-1",
    "+80",
    "080080",
    "80-",
    "-80",
    "80-70",
    "80--90",
    "80-90-100",
    "1-70000",
    "80/",
    "/tcp",
    "80/icmp",
    "80/tcp/udp",
    "80/TCP/",
    "80/6",
    "tcp/80",
    "tcp:80",
    "80:tcp",
    "80;443",
    "80 443",
    "80|443",
    "true",
    "false",
    "yes",
    "*",
    "all",
    "any",
    "none",
    "null",
    "HTTP",
    "http2",
    "http/",
    "http/udp",
    "http-",
    "web",
    "0x50",
    "8e1",
    "80.0",
    "[80]",
    "{80}",
    "\"80\"",
    "８０",
    "é",
    "80\n443",
    "80\u{0}",
];

/// Texts that are no source range.
pub(crate) const NOT_SOURCES: [&str; 50] = [
    "",
    " ",
    "\t",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "10.0.0.0/8/8",
    "10.0.0.1/8",
    "10.0.0.1",
    "10.0.0/8",
    "10/8",
    "10.0.0.0.0/8",
    "256.0.0.0/8",
    "10.0.0.256/32",
    "010.0.0.0/8",
    "10.0.0.0/08",
    "10.0.0.0\\8",
    "10.0.0.0 /8",
    "10.0.0.0/8 192.0.2.0/24",
    "10.0.0.0/8;192.0.2.0/24",
    "10.0.0.0-10.0.0.255",
    "10.0.0.*",
    "10.0.0.0/255.0.0.0",
    "2001:db8::/129",
    "2001:db8::1/32",
    "2001:db8::1",
    "2001:db8:::/32",
    "2001:db8::g/32",
    "[2001:db8::]/32",
    "2001:db8::%eth0/64",
    "::ffff:10.0.0.1/104",
    "any",
    "all",
    "*",
    "everyone",
    "internet",
    "none",
    "null",
    "true",
    "0",
    "0/0",
    "localhost",
    "example.com",
    "sg-0123456789abcdef0",
    "pl-0123",
    "\"10.0.0.0/8\"",
    "[10.0.0.0/8]",
    "é",
    "10.0.0.0/8\u{0}",
    "１０.0.0.0/8",
];

/// Texts that are no hostname.
const NOT_HOSTNAMES: [&str; 18] = [
    "",
    " ",
    "localhost",
    "Arena.example.com",
    "*.example.com",
    "a_b.example.com",
    "-a.example.com",
    "a-.example.com",
    "a..example.com",
    ".example.com",
    "example.com.",
    "a.example.com, b.example.com",
    "a b.example.com",
    "https://example.com",
    "example.com:80",
    "example.com/",
    "é.example.com",
    "a.example.com\u{0}",
];

/// Keys of annotations that have no meaning on the pod.
const NOT_KEYS: [&str; 10] = [
    "hostport-firewall.dev/exposed",
    "hostport-firewall.dev/Expose",
    "hostport-firewall.dev/source-range",
    "hostport-firewall.dev/source_ranges",
    "hostport-firewall.dev/sources",
    "hostport-firewall.dev/source-ranges-http",
    "hostport-firewall.dev/source-ranges.https",
    "hostport-firewall.dev/source-ranges.81",
    "hostport-firewall.dev/host-name",
    "hostport-firewall.dev/expose-node-ports",
];

/// Returns the mistake alone, and before and after a valid entry.
fn around(mistake: &str, right: &str) -> [String; 3] {
    [mistake.to_owned(), format!("{right},{mistake}"), format!("{mistake},{right}")]
}

/// Returns each kind: the annotation's key, its value, and the mistake in it, which is empty where the key is
/// the mistake. Tests add an `expose` of `http`.
pub(crate) fn mistakes() -> Vec<(&'static str, String, &'static str)> {
    let kinds = |name, mistakes: &'static [&'static str], right: &'static str| {
        let kind = move |mistake| around(mistake, right).map(|text| (name, text, mistake));
        mistakes.iter().copied().flat_map(kind)
    };
    let alone = |name, mistakes: &'static [&'static str]| {
        mistakes.iter().copied().map(move |mistake| (name, mistake.to_owned(), mistake))
    };
    kinds("hostport-firewall.dev/expose", &NOT_PORTS, "http")
        .chain(kinds("hostport-firewall.dev/source-ranges", &NOT_SOURCES, "192.0.2.0/24"))
        .chain(alone("hostport-firewall.dev/source-ranges.http", &NOT_SOURCES))
        .chain(alone("hostport-firewall.dev/hostname", &NOT_HOSTNAMES))
        .chain(NOT_KEYS.map(|name| (name, "192.0.2.0/24".to_owned(), "")))
        .collect()
}

/// Returns true if the message quotes the mistake as Rust would; or says that a text is empty, where that is
/// it.
pub(crate) fn shows(message: &str, name: &str, mistake: &str) -> bool {
    let has_any = |words: &[&str]| words.iter().any(|words| message.contains(words));
    match mistake.trim() {
        "" if NOT_KEYS.contains(&name) => has_any(&["unknown annotation", "is not among the ports"]),
        "" => has_any(&["is empty", "names no port", "\"\"", "\" \"", "\"\\t\""]),
        mistake => message.contains(&format!("{mistake:?}")),
    }
}
