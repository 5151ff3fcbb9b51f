FROM rust:1.95-bookworm AS build
# aws-lc-sys builds its C code with cmake.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/hostport-firewall /usr/local/bin/hostport-firewall
COPY LICENSE /usr/share/doc/hostport-firewall/LICENSE
ENTRYPOINT ["/usr/local/bin/hostport-firewall"]
