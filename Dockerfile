# The broker as an image: the base's Python, one environment from the hashed lock, and nothing that builds.
#
#   docker run --read-only --cap-drop ALL -v jobkey-data:/data -v "$PWD/etc:/etc/jobkey:ro" -p 8400:8400 IMAGE
#
# Only /data is ever written. A broker.yaml for it says `data: /data`, `listen: 0.0.0.0:8400`, and `tls:` or `behind_proxy: true`.

# A release pins the base by digest (`--build-arg BASE=...@sha256:...`). Any Debian or Ubuntu with python3 >= 3.11 and its venv does.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
COPY requirements/broker.lock requirements/build.lock requirements/
# An index of one's own, with its password, comes in as a secret and stays in no layer.
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    python3 -m venv /opt/jobkey \
 && python3 -m venv /opt/build \
 && /opt/jobkey/bin/pip install --require-hashes --only-binary=:all: --no-compile --requirement requirements/broker.lock \
 && /opt/build/bin/pip install --require-hashes --only-binary=:all: --requirement requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY docs/rules docs/rules
# Bytecode is compiled here, since nothing can be written later, and is not checked against times, which copying may change.
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /src/dist . \
 && /opt/jobkey/bin/pip install --no-index --no-deps --no-compile /src/dist/*.whl \
 && /opt/jobkey/bin/pip uninstall --yes --quiet setuptools wheel pip \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/jobkey/lib \
 && install -d -m 0700 /empty

FROM ${BASE}
LABEL org.opencontainers.image.title="Jobkey" \
      org.opencontainers.image.description="A broker between CI jobs and everything they need a secret for" \
      org.opencontainers.image.licenses="Apache-2.0"
# git and ssh are for policies that live in a repository: a broker with a folder of them runs neither.
# The base decides their versions, as it does for its libraries; a release pins the base.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git openssh-client \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/jobkey /opt/jobkey
COPY --from=build --chown=65532:65532 /empty /data
ENV PATH=/opt/jobkey/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    SQLITE_TMPDIR=/data \
    JOBKEY_HEALTH_URL=http://127.0.0.1:8400
WORKDIR /data
VOLUME /data
EXPOSE 8400
# By number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/opt/jobkey/bin/python", "-I", "-S", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['JOBKEY_HEALTH_URL'] + '/healthz', timeout=4)"]
ENTRYPOINT ["/opt/jobkey/bin/jobkey-broker"]
CMD ["serve", "--config", "/etc/jobkey/broker.yaml"]
