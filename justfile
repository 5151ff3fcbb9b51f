# The everyday commands.

# List them
default:
    @just --list

# Lints, unit and property tests
quick:
    ./test quick

# Everything
test:
    ./test

# The story, on this machine
demo:
    ./demo

# Format
fmt:
    cargo fmt --all

# Licences, sources, duplicate and denied crates, advisories
deny:
    tests/deny

# One end-to-end case, by (part of) its name: just case bad_input
case name:
    cargo build --release
    tests/control-plane/ensure
    HOSTPORT_FIREWALL_BIN=target/release/hostport-firewall \
      cargo test --workspace --test end_to_end -- --ignored {{name}}

# The picture in the README, from a run of the demo
picture:
    ./demo | docs/render-demo > docs/demo.svg
