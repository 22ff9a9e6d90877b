# docker build -t ultravox-batch-monitor .        (or: make image)
# docker run -e ULTRAVOX_API_KEY -p 127.0.0.1:10042:10042 -v ultravox-batch-monitor:/var/lib/ultravox-batch-monitor ultravox-batch-monitor

ARG PYTHON_VERSION=3.13

FROM docker.io/library/python:${PYTHON_VERSION}-slim AS build
SHELL ["/bin/sh", "-eu", "-c"]
# With an epoch set, compiled files hold hashes of their sources and not the times at which pip wrote them.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore SOURCE_DATE_EPOCH=1767225600
WORKDIR /src
COPY requirements.lock ./
# What runs is installed first, and alone: this layer changes with the lock only. No pip goes into it.
RUN python -m venv --without-pip /opt/ultravox-batch-monitor \
    && python -m pip --python /opt/ultravox-batch-monitor/bin/python install --quiet --require-hashes -r requirements.lock
# What makes the wheel goes into an environment that stays behind.
COPY requirements-build.lock ./
RUN python -m venv --without-pip /build \
    && python -m pip --python /build/bin/python install --quiet --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY monitor monitor
RUN /build/bin/python -m hatchling build -t wheel -d /wheel \
    && python -m pip --python /opt/ultravox-batch-monitor/bin/python install --quiet --no-deps --no-index /wheel/*.whl

FROM docker.io/library/python:${PYTHON_VERSION}-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Ultravox Batch Monitor" \
      org.opencontainers.image.description="Watches outbound call batches on Ultravox and speaks up before people are left uncalled" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/ultravox-batch-monitor/bin:$PATH \
    HOME=/var/lib/ultravox-batch-monitor \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A volume that is new takes its owner from here.
RUN install -d -o 10042 -g 10042 -m 0700 /var/lib/ultravox-batch-monitor
COPY --from=build /opt/ultravox-batch-monitor /opt/ultravox-batch-monitor
USER 10042:10042
# The state file's default path is relative: ./monitor.db
WORKDIR /var/lib/ultravox-batch-monitor
VOLUME /var/lib/ultravox-batch-monitor
EXPOSE 10042
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["batch-monitor", "healthcheck"]
ENTRYPOINT ["batch-monitor"]
CMD ["run"]
