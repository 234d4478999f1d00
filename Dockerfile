# The balancer and its agents: `balancer serve` unless another command is given. docker-compose.yml has all of it together.
# Everything is pinned: the base by version, what pip installs by hash (`make lock` writes the lock files).

FROM python:3.12.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements-run.lock ./
RUN pip install --no-deps --require-hashes -r requirements-build.lock \
 && python -m venv /opt/balancer \
 && /opt/balancer/bin/pip install --no-deps --require-hashes -r requirements-run.lock
COPY pyproject.toml README.md LICENSE ./
COPY balancer balancer
COPY worker worker
RUN python -m hatchling build --target wheel \
 && /opt/balancer/bin/pip install --no-deps --no-index dist/*.whl

FROM python:3.12.12-slim-bookworm
RUN groupadd --system --gid 10001 balancer \
 && useradd --system --uid 10001 --gid balancer --no-create-home --shell /usr/sbin/nologin balancer
COPY --from=build /opt/balancer /opt/balancer
ENV PATH=/opt/balancer/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
# A process, not curl: it asks Redis when the loops of this container's balancer last succeeded.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s --retries=3 CMD ["balancer", "health"]
CMD ["balancer", "serve"]
