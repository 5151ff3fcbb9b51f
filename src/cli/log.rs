//! The log, on standard error: one line for each event, whatever the texts in it.

use std::io::IsTerminal;

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::LogFormat;
use crate::k8s::plain_text::escape_unprintable;

/// Logs to standard error from this level on, unless `RUST_LOG` says otherwise: a level, or one for each module
/// (`warn,firewall_aws=debug`).
pub fn log_to_stderr(level: LevelFilter, format: LogFormat) {
    let directives = std::env::var("RUST_LOG").ok().and_then(|directives| directives.parse().ok());
    let filter: Targets = directives.unwrap_or_else(|| Targets::new().with_default(level));
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.fmt_fields(escaped_fields()).finish().with(filter).init(),
        // JSON escapes by itself what would end a line.
        LogFormat::Json => log.json().finish().with(filter).init(),
    }
}

/// Returns a format of fields as the library's own, but for what could forge a line: names and messages come
/// from everybody who can create a pod, and from the clouds.
fn escaped_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    let format = |writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
                  field: &tracing::field::Field,
                  value: &dyn std::fmt::Debug| {
        let text = format!("{value:?}");
        let text = escape_unprintable(&text);
        match field.name() {
            "message" => writer.write_str(&text),
            name => write!(writer, "{name}={text}"),
        }
    };
    debug_fn(format).delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn untrusted_text_adds_no_line_to_the_log() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .fmt_fields(escaped_fields())
            .finish();
        tracing::subscriber::with_default(log, || {
            let (object, reason) = ("Pod shop/a\n ERROR all ports closed", "Port\u{202e}Denied".to_owned());
            tracing::warn!(%object, reason, count = 2, "Rejected: \u{1b}[2Ja {}", "b\nc");
        });
        let text = String::from_utf8(written.0.lock().expect("no panic").clone()).expect("UTF-8");
        let expected = "Rejected: \\u{1b}[2Ja b\\nc object=Pod shop/a\\n ERROR all ports closed \
                        reason=\"Port\\u{202e}Denied\" count=2\n";
        assert!(text.ends_with(expected) && text.lines().count() == 1, "{text}");
    }
}
