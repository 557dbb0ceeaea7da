# docker build [--build-arg VARIANT=cpu] [--network host] -t cog-idefics .
# VARIANT=cuda (default, 4 GB of libraries) runs on a GPU where `docker run --gpus all` gives it one
# and on the CPU elsewhere; VARIANT=cpu is the small image. `scripts/build_image.sh` also adds the
# schema label. Certificates of an own authority (*.crt) go to docker/ca-certificates/.
# BASE is pinned by its digest: `docker buildx imagetools inspect debian:bookworm-slim` tells the newest,
# --build-arg BASE=… takes another. The build itself brings every package up to date.
# `--target export` is another image: what makes bundles, for a job that fetches a model from the hub.
ARG BASE=debian:bookworm-slim@sha256:4724b8cc51e33e398f0e2e15e18d5ec2851ff0c2280647e1310bc1642182655d

# ---- what changes seldom: the compiler and libtorch ----
FROM ${BASE} AS tools
ARG VARIANT=cuda
ENV COG_IDEFICS_CACHE=/cache PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
COPY docker/ca-certificates/ /usr/local/share/ca-certificates/
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get upgrade -y \
    && apt-get install -y --no-install-recommends ca-certificates && update-ca-certificates
WORKDIR /work
COPY scripts/setup.sh scripts/environment.sh scripts/requirements*.txt scripts/
COPY scripts/arm64 scripts/arm64
RUN if [ "$VARIANT" = cuda ]; then scripts/setup.sh --cuda; else scripts/setup.sh; fi

# ---- compiles the server and exports the demo model ----
FROM tools AS build
ARG VARIANT=cuda
COPY docker/collect_runtime.sh docker/
RUN docker/collect_runtime.sh "$VARIANT" /opt/libtorch
COPY CMakeLists.txt CMakePresets.json VERSION ./
COPY cmake cmake
COPY common common
COPY weights weights
COPY predictor predictor
COPY server server
COPY scripts scripts
RUN export IDEFICS_PRESET="$([ "$VARIANT" = cuda ] && echo cuda || echo release)" \
    && scripts/build.sh "$IDEFICS_PRESET" idefics-server idefics_ops \
    && mkdir -p /out/src/.cog \
    && cp -rL "$(scripts/demo_bundle.sh)" /out/src/weights \
    && scripts/idefics-server --print-openapi >/out/src/.cog/openapi_schema.json
COPY LICENSE README.md CHANGELOG.md SECURITY.md ./
COPY docs docs
COPY docker/sbom.sh docker/vex.openvex.json docker/
# No library of the image names a folder (RUNPATH): ld.so.conf.d below does.
RUN build="build/$([ "$VARIANT" = cuda ] && echo cuda || echo release)" \
    && cmake -DCMAKE_SKIP_INSTALL_RPATH=ON "$build" >/dev/null \
    && cmake --install "$build" --prefix /out/local --strip \
    && install -m 644 docker/vex.openvex.json VERSION /out/local/share/doc/cog-idefics/ \
    && docker/sbom.sh pins "$VARIANT" >/out/pins

# ---- the hub's client, beside libtorch's Python ----
FROM tools AS hub
RUN scripts/setup.sh --hub && mkdir /out && mv "$COG_IDEFICS_CACHE"/hub-* /out/

# ---- exports checkpoints; as any user, with HF_HOME and the bundle's folder to write to ----
FROM ${BASE} AS export
COPY docker/ca-certificates/ /usr/local/share/ca-certificates/
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get upgrade -y \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* && update-ca-certificates
RUN --mount=type=bind,from=tools,source=/cache,target=/tools \
    mkdir /cache && cp -a /tools/python-* /cache/
COPY --from=hub /out /cache
WORKDIR /work
COPY LICENSE VERSION ./
COPY scripts/environment.sh scripts/export.sh scripts/requirements*.txt scripts/
COPY scripts/arm64 scripts/arm64
COPY scripts/export scripts/export
COPY --from=build /out/local/lib/cog-idefics/libidefics_ops.so ./
ENV COG_IDEFICS_CACHE=/cache IDEFICS_OPS_LIBRARY=/work/libidefics_ops.so HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
ENTRYPOINT ["/usr/bin/tini", "--", "/work/scripts/export.sh"]

# ---- what runs ----
FROM ${BASE}
ARG REVISION=unknown
COPY docker/ca-certificates/ /usr/local/share/ca-certificates/
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get upgrade -y \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates tini libcurl4 libssl3 libspdlog1.10 libsentencepiece0 \
      libjpeg62-turbo libpng16-16 libtiff6 libgif7 libwebp7 libwebpdemux2 libavif15 zlib1g \
    && rm -rf /var/lib/apt/lists/* && update-ca-certificates \
    && ln -sf /usr/bin/tini /sbin/tini
COPY --from=build /opt/libtorch /opt/libtorch
COPY --from=build /out/local /usr/local
COPY --from=build /out/src /src
COPY --from=build /out/pins /tmp/pins
COPY docker/python docker/pip docker/serve /usr/local/bin/
COPY docker/sbom.sh /tmp/
COPY LICENSE cog.yaml run.py /src/
RUN chmod 755 /usr/local/bin/python /usr/local/bin/pip /usr/local/bin/serve \
    && ln -s python /usr/local/bin/python3 && ln -s pip /usr/local/bin/pip3 \
    && find /opt/libtorch /usr/local/lib -name '*.so*' -printf '%h\n' | sort -u \
      >/etc/ld.so.conf.d/idefics.conf \
    && ldconfig \
    && cd /usr/local/share/doc/cog-idefics \
    && VERSION_FILE=VERSION /tmp/sbom.sh document /tmp/pins >sbom.cdx.json \
    && rm /tmp/pins /tmp/sbom.sh \
    && idefics-server --print-openapi | cmp - /src/.cog/openapi_schema.json
# Who publishes the port wants it reached. Idle OpenMP threads sleep instead of spinning; NVIDIA_* ask
# the container toolkit for the driver.
ENV IDEFICS_HOST=0.0.0.0 IDEFICS_REVISION=$REVISION OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL run.cog.version="0.22.0" run.cog.has_init="true" run.cog.pip_freeze="" \
      run.cog.config='{"build":{"gpu":true,"cuda":"13.0","python_version":"3.11"},"run":"run.py:Runner"}' \
      org.opencontainers.image.title="cog-idefics" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.version="0.1.0"
WORKDIR /src
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["idefics-server", "health"]
ENTRYPOINT ["/sbin/tini", "--"]
CMD ["python", "-m", "cog.server.http"]
