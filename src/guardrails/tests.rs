//! Tests of each guardrail, and of the file's parser.

use Protocol::{Tcp, Udp};
use firewall_core::testing::conformance::rule;
use serde_json::json;

use super::file::parse;
use super::*;
use crate::k8s::objects::builders::from_json;

fn namespace(labels: &serde_json::Value) -> Namespace {
    from_json(json!({ "metadata": { "name": "shop", "labels": labels } }))
}

/// Returns the denial of a request, if it is denied.
fn check(yaml: &str, request: &OpeningRequest<'_>) -> Option<Denial> {
    parse(yaml).expect("guardrails").check(request).err()
}

fn reason_of(denial: Option<Denial>) -> &'static str {
    denial.map_or("", |denial| denial.reason)
}

/// Returns the denial of these ports in namespace `shop`.
fn check_ports(yaml: &str, ports: &[(Protocol, u16)]) -> Option<Denial> {
    let ports = &ranges(ports);
    check(yaml, &OpeningRequest { namespace: "shop", namespace_object: None, ports, hostname: None })
}

fn ranges(ports: &[(Protocol, u16)]) -> PortRanges {
    merge(ports.iter().map(|(protocol, port)| (*protocol, PortRange::single(*port).expect("a port"))))
}

#[test]
fn ports_of_the_node_itself_are_denied_unless_allowed() {
    let cases = [
        (vec![(Tcp, 22)], "", "PortDenied"),
        (vec![(Tcp, 22)], "allowedPorts: [22]", ""),
        (vec![(Tcp, 22)], "allowedPorts: [20-30/tcp]", ""),
        (vec![(Tcp, 22)], "allowedPorts: [22/udp]", "PortDenied"),
        (vec![(Tcp, 22)], "allowedPorts: [6443]", "PortDenied"),
        (vec![(Tcp, 80), (Tcp, 22)], "", "PortDenied"),
        (vec![(Tcp, 2378), (Tcp, 2381), (Tcp, 10247), (Tcp, 10260)], "", ""),
        (vec![(Tcp, 2379)], "", "PortDenied"),
        (vec![(Tcp, 6443)], "", "PortDenied"),
        (vec![(Tcp, 10248)], "", "PortDenied"),
        (vec![(Tcp, 10259)], "", "PortDenied"),
        (vec![(Udp, 22)], "", ""),
        (vec![(Udp, 4789)], "", "PortDenied"),
        (vec![(Udp, 6081)], "", "PortDenied"),
        (vec![(Udp, 8472)], "", "PortDenied"),
        (vec![(Udp, 8472)], "allowedPorts: [8472/udp]", ""),
        (vec![(Tcp, 8472)], "", ""),
    ];
    for (ports, yaml, expected) in cases {
        assert_eq!(reason_of(check_ports(yaml, &ports)), expected, "{ports:?} {yaml}");
    }
    let message = check_ports("", &[(Tcp, 22), (Tcp, 80), (Tcp, 6443)]).expect("it is denied").message;
    assert!(message.contains("tcp/22, tcp/6443") && message.contains("--allow-ports"), "{message}");
}

#[test]
fn denied_port_stays_denied_even_if_it_is_allowed() {
    let cases = [
        ("deniedPorts: [25]", (Tcp, 25), "PortDenied"),
        ("deniedPorts: [25]", (Udp, 25), "PortDenied"),
        ("deniedPorts: [25/udp]", (Tcp, 25), ""),
        ("deniedPorts: [\"20-30\"]", (Tcp, 25), "PortDenied"),
        ("{deniedPorts: [22], allowedPorts: [22]}", (Tcp, 22), "PortDenied"),
        ("{deniedPorts: [25], namespaces: [{names: [shop], ports: [25]}]}", (Tcp, 25), "PortDenied"),
    ];
    for (yaml, port, expected) in cases {
        assert_eq!(reason_of(check_ports(yaml, &[port])), expected, "{yaml} {port:?}");
    }
}

#[test]
fn only_listed_namespaces_open_ports_and_only_their_own() {
    let games = namespace(&json!({ "team": "games" }));
    let cases = [
        ("namespaces: [{names: [shop]}]", None, ""),
        ("namespaces: [{names: [other]}]", None, "NamespaceNotAllowed"),
        ("namespaces: []", None, "NamespaceNotAllowed"),
        ("namespaces: [{selector: {matchLabels: {team: games}}}]", Some(&games), ""),
        ("namespaces: [{selector: {matchLabels: {team: web}}}]", Some(&games), "NamespaceNotAllowed"),
        ("namespaces: [{selector: {matchLabels: {team: games}}}]", None, "NamespaceNotAllowed"),
        ("namespaces: [{selector: {matchExpressions: [{key: team, operator: Exists}]}}]", Some(&games), ""),
        ("namespaces: [{names: [shop], ports: [80, 443]}]", None, "PortNotAllowed"),
        ("namespaces: [{names: [shop], ports: [8000-9000/tcp]}]", None, ""),
        ("namespaces: [{names: [shop], ports: [8000-9000/udp]}]", None, "PortNotAllowed"),
        ("namespaces: [{names: [shop], ports: [80]}, {selector: {}, ports: [8080]}]", Some(&games), ""),
        ("namespaces: [{names: [shop], ports: []}]", None, "PortNotAllowed"),
    ];
    let ports = ranges(&[(Tcp, 8080)]);
    for (yaml, namespace_object, expected) in cases {
        let request = OpeningRequest { namespace: "shop", namespace_object, ports: &ports, hostname: None };
        assert_eq!(reason_of(check(yaml, &request)), expected, "{yaml} {namespace_object:?}");
    }
}

/// Returns the reason for which these rules are denied; empty if they are not.
fn check_rules(yaml: &str, rules: &[&str]) -> &'static str {
    let rules: RuleSet = rules.iter().map(|text| rule(text)).collect();
    reason_of(parse(yaml).expect("guardrails").check_rules(&rules).err())
}

#[test]
fn source_outside_or_wider_than_allowed_is_denied() {
    let cases = [
        ("allowedSourceRanges: [10.0.0.0/8]", "tcp/80 10.1.0.0/16", ""),
        ("allowedSourceRanges: [10.0.0.0/8]", "tcp/80 10.0.0.0/8", ""),
        ("allowedSourceRanges: [10.0.0.0/8]", "tcp/80 0.0.0.0/0", "SourceNotAllowed"),
        ("allowedSourceRanges: [10.0.0.0/8]", "tcp/80 ::/0", "SourceNotAllowed"),
        ("allowedSourceRanges: []", "tcp/80 10.0.0.0/8", "SourceNotAllowed"),
        ("allowedSourceRanges: [10.0.0.0/9, 10.128.0.0/9]", "tcp/80 10.0.0.0/8", ""),
        ("widestSourceRanges: {ipv4: 8}", "tcp/80 10.0.0.0/8", ""),
        ("widestSourceRanges: {ipv4: 8}", "tcp/80 10.0.0.0/7", "SourceTooWide"),
        ("widestSourceRanges: {ipv4: 8}", "tcp/80 ::/0", ""),
        ("widestSourceRanges: {ipv6: 32}", "tcp/80 2001::/16", "SourceTooWide"),
    ];
    for (yaml, rule, expected) in cases {
        assert_eq!(check_rules(yaml, &[rule]), expected, "{yaml} {rule}");
    }
    let halves = ["tcp/80 0.0.0.0/1", "tcp/80 128.0.0.0/1"];
    assert_eq!(
        check_rules("widestSourceRanges: {ipv4: 1}", &halves),
        "SourceTooWide",
        "two halves are one whole"
    );
}

#[test]
fn rules_beyond_the_allowed_number_are_denied() {
    let two = ["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"];
    assert_eq!(check_rules("mostRules: 2", &two), "");
    assert_eq!(check_rules("mostRules: 1", &two), "TooManyRules");
}

#[test]
fn hostname_outside_the_allowed_domains_is_denied() {
    let ports = ranges(&[(Tcp, 80)]);
    let on = |yaml: &str, hostname: &str| {
        let hostname = Some(hostname);
        let request = OpeningRequest { namespace: "shop", namespace_object: None, ports: &ports, hostname };
        reason_of(check(yaml, &request))
    };
    let cases = [
        ("{}", "www.bank.example", ""),
        ("allowedHostnames: [games.example]", "games.example", ""),
        ("allowedHostnames: [games.example]", "eu.games.example", ""),
        ("allowedHostnames: [games.example]", "badgames.example", "HostnameNotAllowed"),
        ("allowedHostnames: [games.example]", "www.bank.example", "HostnameNotAllowed"),
        ("allowedHostnames: []", "www.bank.example", "HostnameNotAllowed"),
    ];
    for (yaml, hostname, expected) in cases {
        assert_eq!(on(yaml, hostname), expected, "{yaml} {hostname}");
    }
}

#[test]
fn empty_file_sets_no_guardrail() {
    for nothing in ["", "# nothing yet\n", "{}", "deniedPorts: []\n"] {
        assert_eq!(parse(nothing), Ok(Guardrails::default()), "{nothing:?}");
    }
}

#[test]
fn invalid_guardrail_is_an_error_with_its_line() {
    let cases = [
        ("deniedPorts: [25]\ndeniedPort: [26]\n", "line 2", "deniedPort"),
        ("deniedPorts:\n  - 25\n  - 70000\n", "line 3", "70000"),
        ("deniedPorts: [25]\nmostRules: many\n", "line 2", ""),
        ("allowedSourceRanges:\n- 10.0.0.0/8\n- 10.0.0.1/8\n", "line 3", "write 10.0.0.0/8"),
        ("widestSourceRanges:\n  ipv4: 33\n", "line 2", "32"),
        ("widestSourceRanges:\n  ipv5: 8\n", "line 2", "ipv5"),
        ("namespaces:\n- names: [shop]\n  port: [80]\n", "line 3", "port"),
        ("namespaces:\n- selector:\n    matchLabel: {a: b}\n", "line 3", "matchLabel"),
        (
            "namespaces:\n- selector:\n    matchExpressions:\n    - {key: a, operator: In, value: [b]}\n",
            "line 4",
            "value",
        ),
        ("namespaces:\n- names: [shop]\n  selector: {}\n", "", "either names or a selector"),
        ("namespaces:\n- ports: [80]\n", "", "either names or a selector"),
        ("allowedHostnames:\n- Example.COM\n", "line 2", "lower case"),
        ("deniedPorts: [25\n", "line", ""),
        ("- 25\n", "", ""),
        ("mostRules: 1\nmostRules: 2\n", "line 2", "mostRules"),
    ];
    for (yaml, line, part) in cases {
        let error = parse(yaml).expect_err(yaml);
        assert!(error.contains(line) && error.contains(part), "{yaml}: {error}");
    }
}

#[test]
fn documented_example_sets_every_guardrail() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guardrails.md");
    let text = std::fs::read_to_string(path).expect("docs/guardrails.md");
    let (_, example) = text.split_once("```yaml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let guardrails = parse(example).expect("guardrails");
    let all = Guardrails::default();
    assert_ne!(guardrails.denied_ports, all.denied_ports);
    assert_ne!(guardrails.allowed_ports, all.allowed_ports);
    assert_ne!(guardrails.allowed_source_ranges, all.allowed_source_ranges);
    assert_ne!((guardrails.widest_ipv4, guardrails.widest_ipv6), (all.widest_ipv4, all.widest_ipv6));
    assert_ne!(guardrails.most_rules, all.most_rules);
    assert_ne!(guardrails.allowed_hostnames, all.allowed_hostnames);
    assert_ne!(guardrails.namespaces, all.namespaces);
}

#[test]
fn malformed_selector_fails_the_file() {
    let long = "x".repeat(64);
    let cases = [
        ("matchExpressions: [{key: team, operator: NotIn, values: []}]".to_owned(), "values"),
        ("matchExpressions: [{key: team, operator: In}]".to_owned(), "values"),
        ("matchExpressions: [{key: team, operator: Exists, values: [a]}]".to_owned(), "values"),
        ("matchExpressions: [{key: team, operator: exists}]".to_owned(), "exists"),
        ("matchExpressions: [{key: team, operator: Gt, values: ['1']}]".to_owned(), "Gt"),
        ("matchExpressions: [{key: '', operator: DoesNotExist}]".to_owned(), "key"),
        ("matchExpressions: [{key: 'te am', operator: DoesNotExist}]".to_owned(), "te am"),
        ("matchExpressions: [{key: A/b/c, operator: DoesNotExist}]".to_owned(), "A/b/c"),
        ("matchExpressions: [{key: Example.com/b, operator: DoesNotExist}]".to_owned(), "Example.com"),
        (format!("matchExpressions: [{{key: {long}, operator: DoesNotExist}}]"), "key"),
        ("matchExpressions: [{key: team, operator: NotIn, values: ['a b']}]".to_owned(), "a b"),
        (format!("matchExpressions: [{{key: team, operator: NotIn, values: [{long}]}}]"), "63"),
        ("matchLabels: {'': games}".to_owned(), "key"),
        ("matchLabels: {team: -games}".to_owned(), "-games"),
    ];
    for (selector, part) in cases {
        let error = parse(&format!("namespaces: [{{selector: {{{selector}}}}}]")).expect_err(&selector);
        assert!(error.contains(part) && error.contains("namespaces"), "{selector}: {error}");
    }
    for selector in [
        "matchExpressions: [{key: example.com/Team_1.x, operator: NotIn, values: ['', a.B_c-1]}]",
        "matchLabels: {team: ''}",
        "matchExpressions: [{key: team, operator: Exists, values: []}]",
    ] {
        assert!(parse(&format!("namespaces: [{{selector: {{{selector}}}}}]")).is_ok(), "{selector}");
    }
}

#[test]
fn range_is_denied_for_one_port_of_it() {
    let asked = merge([(Tcp, "1-1000".parse().expect("a range"))]);
    let request = OpeningRequest { namespace: "shop", namespace_object: None, ports: &asked, hostname: None };
    let denied = check("", &request).expect("SSH is among them").message;
    assert!(denied.starts_with("tcp/22 is a port of the node itself"), "{denied}");
    let cases = [
        ("allowedPorts: [22]", ""),
        ("{allowedPorts: [22], deniedPorts: [25]}", "PortDenied"),
        ("{allowedPorts: [22], namespaces: [{names: [shop], ports: [1-500, 501-1000]}]}", ""),
        ("{allowedPorts: [22], namespaces: [{names: [shop], ports: [1-500, 502-1000]}]}", "PortNotAllowed"),
    ];
    for (yaml, reason) in cases {
        assert_eq!(reason_of(check(yaml, &request)), reason, "{yaml}");
    }
    let allowed = |yaml: &str| parse(yaml).expect("guardrails").find_allowed_ports(&request);
    assert_eq!(format_ports(&allowed("deniedPorts: [25]")), "tcp/1-21, tcp/23-24, tcp/26-1000");
    assert_eq!(
        format_ports(&allowed("namespaces: [{names: [shop], ports: [20-30]}]")),
        "tcp/20-21, tcp/23-30"
    );
    assert_eq!(format_ports(&allowed("namespaces: [{names: [other]}]")), "");
    assert_eq!(format_ports(&allowed("namespaces: [{selector: {}}]")), "tcp/1-21, tcp/23-1000");
}
