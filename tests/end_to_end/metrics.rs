//! Reads metrics as Prometheus does.

use std::io::{Read, Write};
use std::net::TcpStream;

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The value of the metric with these labels.
pub(crate) fn metric(port: u16, name: &str, labels: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    let labelled = |line: &&str| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    };
    Some(page.lines().find(labelled)?.rsplit_once(' ')?.1.to_owned())
}
