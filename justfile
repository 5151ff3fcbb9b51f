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
    cargo deny check
