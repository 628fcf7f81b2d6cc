# Minimal server image: the binary, its shared libraries and an empty /data. It has no shell and no package manager, so
# only the binary and its libraries need updates.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# COMMIT is shown by `streamline --version`, /info and streamline_build_info.
ARG COMMIT=
RUN SOURCE_COMMIT="$COMMIT" cargo build --release --locked --bin streamline \
 && mkdir -p /image/usr/bin /image/etc /image/data \
 && strip -o /image/usr/bin/streamline target/release/streamline \
 && ldd target/release/streamline | grep -o '/[^ ]*' | xargs -I '{}' cp -L --parents '{}' /image \
 && echo 'streamline:x:10001:10001::/data:/usr/bin/nologin' > /image/etc/passwd \
 && chown 10001:10001 /image/data

FROM scratch
COPY --from=build /image /
USER 10001:10001
ENV PATH=/usr/bin STREAMLINE_DATA_DIR=/data
VOLUME /data
EXPOSE 9092 9094
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["streamline", "health", "--live"]
ENTRYPOINT ["streamline"]
