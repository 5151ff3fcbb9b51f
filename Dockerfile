FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/hostport-firewall /usr/local/bin/hostport-firewall
COPY LICENSE /usr/share/doc/hostport-firewall/LICENSE
ENTRYPOINT ["/usr/local/bin/hostport-firewall"]
