//! Mistakes that annotations are made with, some three hundred kinds. The end-to-end tests make them too.

/// What is no port of the pod, or no port at all.
const NOT_PORTS: [&str; 52] = [
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

/// What is no source range.
const NOT_SOURCES: [&str; 50] = [
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

/// The mistake alone, and beside something that is right.
fn around(mistake: &str, right: &str) -> [String; 3] {
    [mistake.to_owned(), format!("{right},{mistake}"), format!("{mistake},{right}")]
}

/// Each kind: the annotation with the mistake in it, its name, and the mistake. Beside it stands an `expose` of `http`.
pub(crate) fn mistakes() -> Vec<(&'static str, String, &'static str)> {
    let expose = "hostport-firewall.dev/expose";
    let sources = "hostport-firewall.dev/source-ranges";
    let kinds = |name, mistakes: &'static [&'static str], right: &'static str| {
        let kind = move |mistake| around(mistake, right).map(|text| (name, text, mistake));
        mistakes.iter().copied().flat_map(kind)
    };
    kinds(expose, &NOT_PORTS, "http").chain(kinds(sources, &NOT_SOURCES, "192.0.2.0/24")).collect()
}

/// Whether the message shows the mistake, as Rust would quote it; what is empty cannot be shown.
pub(crate) fn shows(message: &str, mistake: &str) -> bool {
    let quoted = format!("{:?}", mistake.trim());
    mistake.trim().is_empty() || message.contains(quoted.trim_matches('"'))
}
