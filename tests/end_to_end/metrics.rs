//! Reading metrics as Prometheus does.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Returns the value of the metric with these labels, or `None` if it is not served.
pub(crate) fn read_metric(port: u16, name: &str, labels: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    let labelled = |line: &&str| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    };
    Some(page.lines().find(labelled)?.rsplit_once(' ')?.1.to_owned())
}
