//! Annotated pods: the ports that lists select, the sources that narrow them, and invalid values.

use serde_json::{Value, json};

use super::{Collected, collect, opened, pod, rejection};
use crate::k8s::objects::builders::{host_port, named_host_port};

/// Returns a pod with TCP 80 (`http`), 443 (`https`), 9100, and UDP 53 (`dns`), 3478, 30000 and 30005.
fn many(annotations: &Value) -> Value {
    let tcp =
        |name: Option<&str>, port: u16| json!({ "name": name, "containerPort": port, "hostPort": port });
    let udp = |name: Option<&str>, port: u16| json!({ "name": name, "containerPort": port, "hostPort": port, "protocol": "UDP" });
    let ports = json!([
        tcp(Some("http"), 80),
        tcp(Some("https"), 443),
        tcp(None, 9100),
        udp(Some("dns"), 53),
        udp(None, 3478),
        udp(None, 30000),
        udp(None, 30005),
    ]);
    pod("web", annotations, &ports)
}

fn exposing(list: &str) -> Collected {
    let sources = "192.0.2.0/24";
    collect([many(&json!({
        "hostport-firewall.dev/expose": list,
        "hostport-firewall.dev/source-ranges": sources,
    }))])
}

fn from(sources: &Value) -> Collected {
    let mut annotations = json!({ "hostport-firewall.dev/expose": "http, https" });
    for (name, value) in sources.as_object().unwrap() {
        annotations[format!("hostport-firewall.dev/{name}")] = value.clone();
    }
    collect([many(&annotations)])
}

#[test]
fn names_numbers_and_ranges_select_host_ports() {
    let cases = [
        ("http", "tcp/80"),
        ("http,https", "tcp/80 tcp/443"),
        (" http ,\thttps ", "tcp/80 tcp/443"),
        ("http/tcp", "tcp/80"),
        ("dns", "udp/53"),
        ("80", "tcp/80"),
        ("80/TCP", "tcp/80"),
        ("3478/udp", "udp/3478"),
        ("80, 80, http, 80-80", "tcp/80"),
        ("1-65535", "tcp/80 tcp/443 tcp/9100"),
        ("30000-30100/udp", "udp/30000 udp/30005"),
        ("http, https, 3478/udp, 30000-30100/udp", "tcp/80 tcp/443 udp/3478 udp/30000 udp/30005"),
    ];
    for (list, expected) in cases {
        let opened: Vec<String> =
            opened(&exposing(list)).iter().map(|rule| rule.replace(" from 192.0.2.0/24", "")).collect();
        assert_eq!(opened.join(" "), expected, "{list:?}");
    }
}

#[test]
fn name_of_several_ports_is_refused_with_their_numbers() {
    let two = |list: &str| {
        let mut pod = pod("cache", &json!({ "hostport-firewall.dev/expose": list }), &json!([]));
        pod["spec"]["containers"] = json!([
            { "name": "cache", "ports": [named_host_port("http", 80)] },
            { "name": "exporter", "ports": [named_host_port("http", 9131)] },
        ]);
        collect([pod])
    };
    let message = rejection(&two("http"));
    for part in ["80/tcp of container cache", "9131/tcp of container exporter", "write the number"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(opened(&two("80")), ["tcp/80 from 0.0.0.0/0", "tcp/80 from ::/0"]);
}

#[test]
fn entry_without_a_host_port_is_rejected_with_a_remedy() {
    let cases = [
        ("", "the list is empty; name ports"),
        ("  ", "the list is empty; name ports"),
        ("true", "\"true\" is no host port of the pod; name those to open of http (80/tcp)"),
        ("*", "\"*\" is no host port"),
        ("metrics", "\"metrics\" is no host port"),
        ("http, metrics", "\"metrics\" is no host port"),
        ("http/udp", "\"http/udp\" is no host port"),
        ("81", "\"81\" is no host port"),
        ("3478", "\"3478\" is no host port"),
        ("20000-20100", "\"20000-20100\" is no host port"),
        ("80/icmp", "\"80/icmp\": \"icmp\" is not a protocol with ports; use tcp, udp or sctp"),
        ("80/", "is not a protocol"),
        ("99999", "99999"),
        ("65536", "65536"),
        ("0", "port 0 is not a port"),
        ("0-80", "port 0 is not a port"),
        ("443-80", "write 80-443"),
        ("80-", "\"80-\""),
        ("-80", "\"-80\""),
        ("80-90-100", "\"80-90-100\""),
        ("+80", "\"+80\""),
        ("80,", "\"\" names no port"),
        ("/tcp", "\"/tcp\" names no port"),
        ("80 443", "\"80 443\""),
        ("80;443", "\"80;443\""),
    ];
    for (list, part) in cases {
        let message = rejection(&exposing(list));
        assert!(
            message.starts_with("InvalidAnnotation Pod shop/web: hostport-firewall.dev/expose: "),
            "{message}"
        );
        assert!(message.contains(part), "{list:?}: {message}");
        assert!(message.len() < 400, "{message}");
    }
}

#[test]
fn oversized_list_is_rejected_with_a_short_message() {
    for list in ["80,".repeat(501), "x".repeat(200_000), format!("80, {}", "é/".repeat(50_000))] {
        let message = rejection(&exposing(&list));
        assert!(message.len() < 400, "{message}");
    }
}

#[test]
fn range_is_one_entry_however_many_ports_it_has() {
    let ports: Vec<Value> = (10_000..10_600)
        .map(|port| json!({ "containerPort": port, "hostPort": port, "protocol": "UDP" }))
        .collect();
    let annotations = json!({ "hostport-firewall.dev/expose": "10000-10599/udp" });
    let opened = opened(&collect([pod("pbx", &annotations, &json!(ports))]));
    assert_eq!(opened, ["udp/10000-10599 from 0.0.0.0/0", "udp/10000-10599 from ::/0"]);
}

#[test]
fn rules_beyond_the_limit_of_any_cloud_are_rejected() {
    let ports: Vec<Value> =
        (1..=40).map(|n| json!({ "containerPort": n, "hostPort": 30000 + 2 * n })).collect();
    let sources: Vec<String> = (0..40).map(|n| format!("10.{}.0.0/16", 2 * n)).collect();
    let annotations = json!({
        "hostport-firewall.dev/expose": "30000-31000",
        "hostport-firewall.dev/source-ranges": sources.join(","),
    });
    assert!(
        rejection(&collect([pod("web", &annotations, &json!(ports))]))
            .starts_with("TooManyRules Pod shop/web")
    );
}

#[test]
fn sources_apply_to_all_ports_or_to_one() {
    let cases = [
        (json!({ "source-ranges": "10.0.0.0/8" }), vec!["tcp/80 from 10.0.0.0/8", "tcp/443 from 10.0.0.0/8"]),
        (
            json!({ "source-ranges": "10.0.0.0/8", "source-ranges.https": "192.0.2.0/24, 2001:db8::/32" }),
            vec!["tcp/80 from 10.0.0.0/8", "tcp/443 from 192.0.2.0/24", "tcp/443 from 2001:db8::/32"],
        ),
        (
            json!({ "source-ranges.80": "10.0.0.0/8" }),
            vec!["tcp/80 from 10.0.0.0/8", "tcp/443 from 0.0.0.0/0", "tcp/443 from ::/0"],
        ),
        (
            json!({ "source-ranges": "10.0.0.0/9, 10.128.0.0/9" }),
            vec!["tcp/80 from 10.0.0.0/8", "tcp/443 from 10.0.0.0/8"],
        ),
    ];
    for (sources, expected) in cases {
        assert_eq!(opened(&from(&sources)), expected, "{sources}");
    }
}

#[test]
fn invalid_sources_reject_the_whole_pod() {
    let cases = [
        (json!({ "source-ranges": "10.0.0.0/33" }), "10.0.0.0/33"),
        (json!({ "source-ranges": "10.0.0.1/8" }), "write 10.0.0.0/8"),
        (json!({ "source-ranges": "10.0.0.1" }), "write 10.0.0.1/32"),
        (json!({ "source-ranges": "" }), "empty"),
        (json!({ "source-ranges": "10.0.0.0/8," }), "\"\""),
        (json!({ "source-ranges": vec!["10.0.0.0/8"; 501].join(",") }), "500"),
        (json!({ "source-ranges": "10.0.0.0/8", "source-ranges.http": "everyone" }), "source-ranges.http"),
        (json!({ "source-ranges.htps": "10.0.0.0/8" }), "\"htps\" is not among the ports"),
        (json!({ "source-ranges.9100": "10.0.0.0/8" }), "\"9100\" is not among the ports"),
        (
            json!({ "source-ranges.http": "10.0.0.0/8", "source-ranges.80": "0.0.0.0/0" }),
            "by its name and by its number",
        ),
    ];
    for (sources, part) in cases {
        let message = rejection(&from(&sources));
        assert!(message.starts_with("InvalidAnnotation Pod shop/web: "), "{message}");
        assert!(message.contains(part), "{sources}: {message}");
    }
}

#[test]
fn sources_without_ports_are_rejected() {
    for name in ["source-ranges", "source-ranges.http"] {
        let mut annotations = json!({});
        annotations[format!("hostport-firewall.dev/{name}")] = json!("10.0.0.0/8");
        let message = rejection(&collect([many(&annotations)]));
        assert!(message.contains(&format!("hostport-firewall.dev/{name}: no ports are named")), "{message}");
    }
}

#[test]
fn misspelt_annotation_rejects_the_pod() {
    let misspelt = collect([many(&json!({ "hostport-firewall.dev/exposes": "80" }))]);
    let mut slips = json!({});
    for number in 0..5000 {
        slips[format!("hostport-firewall.dev/x-{number}")] = json!("");
    }
    assert!(rejection(&collect([many(&slips)])).len() < 400, "one problem for all, and a short one");
    let message = rejection(&misspelt);
    assert!(
        message.starts_with("UnknownAnnotation Pod shop/web: hostport-firewall.dev/exposes"),
        "{message}"
    );
    let annotations =
        json!({ "hostport-firewall.dev/expose": "80", "hostport-firewall.dev/source-rangesX": "" });
    let beside = rejection(&collect([many(&annotations)]));
    assert!(beside.starts_with("UnknownAnnotation"), "{beside}");
}

#[test]
fn annotation_without_a_host_port_is_rejected() {
    let pod = pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &json!([{ "containerPort": 80 }]));
    assert!(rejection(&collect([pod])).contains("the pod has no host port"));
}

#[test]
fn invalid_host_port_rejects_the_pod() {
    let ports = json!([host_port(80), { "containerPort": 81, "hostPort": 99999 }]);
    let pod = pod("web", &json!({ "hostport-firewall.dev/expose": "80" }), &ports);
    let message = rejection(&collect([pod]));
    assert!(message.starts_with("InvalidPort Pod shop/web") && message.contains("99999"), "{message}");
}

/// Returns a pod on the host's network that declares 7880, 7881, and UDP 50005 on loopback.
fn media(annotations: &Value) -> Value {
    let ports = json!([
        named_host_port("http", 7880),
        { "containerPort": 7881 },
        { "containerPort": 50005, "hostPort": 50005, "hostIP": "127.0.0.1", "protocol": "UDP" },
    ]);
    let mut pod = pod("sfu-0", annotations, &ports);
    pod["spec"]["hostNetwork"] = json!(true);
    pod
}

fn relaying(list: &str) -> Collected {
    let annotations = json!({ "hostport-firewall.dev/expose": list, "hostport-firewall.dev/source-ranges": "192.0.2.0/24" });
    collect([media(&annotations)])
}

#[test]
fn undeclared_ports_of_the_host_network_open_by_number() {
    let cases = [
        ("7881, 50000-50004/udp", "tcp/7881 udp/50000-50004"),
        ("51820/udp", "udp/51820"),
        ("7000-8000", "tcp/7000-8000"),
        ("40000-40100/udp, 40050-40200/udp, 40201/udp", "udp/40000-40201"),
        ("50000-60000/udp", "udp/50000-50004 udp/50006-60000"),
        ("http, 1-21, 23-79", "tcp/1-21 tcp/23-79 tcp/7880"),
    ];
    for (list, expected) in cases {
        let opened: Vec<String> =
            opened(&relaying(list)).iter().map(|rule| rule.replace(" from 192.0.2.0/24", "")).collect();
        assert_eq!(opened.join(" "), expected, "{list:?}");
    }
    let mut nothing_declared = media(&json!({ "hostport-firewall.dev/expose": "51820/udp" }));
    nothing_declared["spec"]["containers"] = json!([{ "name": "wg" }]);
    assert_eq!(opened(&collect([nothing_declared])), ["udp/51820 from 0.0.0.0/0", "udp/51820 from ::/0"]);
}

#[test]
fn message_is_true_of_a_pod_on_the_host_network() {
    let cases = [
        (
            "rtp",
            "\"rtp\" names no port that the pod declares; it is on the host's network, so write the number",
        ),
        ("rtp", "or one of http (7880/tcp), 7881/tcp"),
        ("50005/udp", "\"50005/udp\" is bound to an address that nobody can reach from outside"),
        ("1-65535", "tcp/22, tcp/2379-2380, tcp/6443, tcp/10248-10259 is a port of the node itself"),
        ("1-65535/udp", "udp/4789, udp/6081, udp/8472 is a port of the node itself"),
    ];
    for (list, part) in cases {
        let message = rejection(&relaying(list));
        assert!(message.contains(part), "{list:?}: {message}");
    }
}

#[test]
fn sources_of_a_number_are_those_of_that_part_of_a_range() {
    let opened_from = |key: &str| {
        let mut annotations = json!({ "hostport-firewall.dev/expose": "40000-40009/udp" });
        annotations["hostport-firewall.dev/source-ranges"] = json!("10.0.0.0/8");
        annotations[format!("hostport-firewall.dev/source-ranges.{key}")] = json!("192.0.2.0/24");
        opened(&collect([media(&annotations)]))
    };
    let general = |ports: &str| format!("udp/{ports} from 10.0.0.0/8");
    let own = |ports: &str| format!("udp/{ports} from 192.0.2.0/24");
    assert_eq!(opened_from("40003"), [general("40000-40002"), own("40003"), general("40004-40009")]);
    assert_eq!(opened_from("40000-40004"), [own("40000-40004"), general("40005-40009")]);
    assert_eq!(opened_from("39000-41000"), [own("40000-40009")]);

    let mut twice = json!({ "hostport-firewall.dev/expose": "40000-40009/udp" });
    for key in ["40000-40004", "40004"] {
        twice[format!("hostport-firewall.dev/source-ranges.{key}")] = json!("192.0.2.0/24");
    }
    assert!(rejection(&collect([media(&twice)])).contains("has source ranges twice"));
}

#[test]
fn pod_off_the_host_network_opens_only_what_it_declares() {
    let mut pod = media(&json!({ "hostport-firewall.dev/expose": "51820/udp" }));
    pod["spec"]["hostNetwork"] = json!(false);
    assert!(rejection(&collect([pod])).contains("\"51820/udp\" is no host port of the pod"));
}
