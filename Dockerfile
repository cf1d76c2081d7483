# Targets: production (the default), development (with the tests and their tools), stub (the upstream to try things on),
# shop (examples/shop).
# No BuildKit feature is used: the classic builder, and hosts that cannot reach a registry, build it too.

ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm

# What every image runs on. curl is the health check and, with ping, what the runbook uses from inside. ping comes with
# a file capability or the setuid bit, and where all capabilities are dropped the kernel refuses to start it with the
# first; a plain copy needs neither, because the kernel lets every group send echo requests in a container. A new volume on
# /app/logs (LOG_DIR) or /app/var (JOURNAL_URL) takes its mode from here: whoever DOCKER_USER is may write there.
FROM ${PYTHON_IMAGE} AS base
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends curl iputils-ping \
    && rm -rf /var/lib/apt/lists/* \
    && cp /bin/ping /bin/ping.plain && chmod 755 /bin/ping.plain && mv /bin/ping.plain /bin/ping \
    && groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin gateway \
    && install -d -o 10001 -g 10001 /app \
    && install -d -m 1777 /app/logs /app/var
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# Wheels of exactly what the lock names, then our own, built with the locked build backend.
FROM ${PYTHON_IMAGE} AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock ./
RUN pip wheel --require-hashes --no-deps --wheel-dir /wheels -r requirements.lock \
    && pip install --no-index --no-deps /wheels/setuptools-*.whl \
    && rm /wheels/setuptools-*.whl
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-index --no-deps /wheels/*.whl
COPY pyproject.toml ./
COPY deploy/validation_rules.json ./
COPY gateway ./gateway
COPY upstream_stub ./upstream_stub
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/venv/bin/python install --no-index --no-deps /dist/*.whl

FROM base AS production
COPY --from=wheels /opt/venv /opt/venv
# Where the platform's runbook looks for the rules (docs/validation.md).
COPY --from=wheels /src/validation_rules.json ./
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=3s --start-period=15s --retries=3 \
    CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:5000/readyz"]
CMD ["gateway", "run"]

FROM base AS stub
COPY --from=wheels /opt/venv /opt/venv
ENV HOST=0.0.0.0 PORT=5001
USER 10001:10001
EXPOSE 5001
HEALTHCHECK --interval=30s --timeout=3s --start-period=15s --retries=3 \
    CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:5001/health"]
CMD ["python", "-m", "upstream_stub"]

# Gateway and services of examples/shop; its Compose file says which of them a container is.
FROM production AS shop
COPY examples/shop ./examples/shop
ENV PYTHONPATH=/app/examples

FROM wheels AS development-wheels
COPY requirements-dev.lock ./
RUN pip --python /opt/venv/bin/python install --require-hashes --no-deps -r requirements-dev.lock \
    && pip --python /opt/venv/bin/python uninstall -y -q resilient-api-gateway

# The checkout instead of an installed package, and what its tests start.
FROM base AS development
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
       make nginx-light openssl postgresql redis-server shellcheck \
    && rm -rf /var/lib/apt/lists/*
COPY --from=development-wheels /opt/venv /opt/venv
COPY --chown=10001:10001 . /app
# Whoever DOCKER_USER is links .env here (docker-compose.yml). The command is that of the checkout.
RUN chmod 1777 /app \
    && printf '#!/bin/sh\nexec python -m gateway "$@"\n' >/usr/local/bin/gateway \
    && chmod 755 /usr/local/bin/gateway
ENV PYTHONPATH=/app
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=3s --start-period=15s --retries=3 \
    CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:5000/readyz"]
CMD ["python", "-m", "gateway", "run"]

# Last, so that `docker build .` without a target makes it too; the classic builder builds what stands before a target.
FROM production
