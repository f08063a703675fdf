# One image for the whole platform: `docker run tatami` is `tatami up`, `docker run tatami gateway` is one service.
# It needs only the classic builder: no cache mounts, no syntax directive.

# Every source file becomes a stub here, so that what the next stage copies changes with the manifests only and
# the compiled dependencies stay in the layer cache when code changes. (Permissions count too, and each checkout has
# those of its umask.)
FROM debian:bookworm-slim AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name '*.rs' ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' -delete \
 && find . -type f -name '*.rs' -exec sh -c 'echo "pub fn main() { }" | tee "$@" >/dev/null' sh {} + \
 && find . -type d -empty -delete \
 && chmod -R u=rwX,go=rX .

FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake libssl-dev pkg-config zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Line tables are for those who profile a build of their own; here they would be three quarters of the binary. Function
# names stay, and a panic says its file and line without them.
ENV CARGO_PROFILE_RELEASE_DEBUG=false
COPY --from=manifests /src .
RUN cargo build --release --locked -p tatami
COPY . .
# Cargo goes by modification times, and the sources may be older than the stubs that were just compiled. What build
# scripts have written into target/ keeps its time, or every crate above them would be compiled again.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo build --release --locked -p tatami

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 tatami \
 && useradd --uid 10001 --gid tatami --home-dir /data --no-create-home --shell /usr/sbin/nologin tatami \
 && install -d -o tatami -g tatami -m 0750 /data
COPY --from=build /src/target/release/tatami /usr/local/bin/tatami
# The numbers, not the name: Kubernetes can then check that the user is not root.
USER 10001:10001
# The defaults are on loopback, which nobody outside the container reaches.
ENV TATAMI_DATA_DIR=/data \
    TATAMI_GATEWAY__LISTEN=0.0.0.0:8000 \
    TATAMI_IOT_AGENT_MQTT__LISTEN=0.0.0.0:1883 \
    TATAMI_IOT_AGENT_MQTT__LISTEN_TLS=0.0.0.0:8883
WORKDIR /data
VOLUME /data
EXPOSE 8000 1883 8883
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["tatami", "health"]
ENTRYPOINT ["tatami"]
CMD ["up"]
