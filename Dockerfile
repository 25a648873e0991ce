# An image with the commands of lasttoken, computing on CPUs. By default it serves the run that is mounted at /run/model:
#
#     docker build -t lasttoken .
#     docker run --init -p 8000:8000 -v "$PWD/runs/spam:/run/spam:ro" -e LASTTOKEN_WORKERS=2 lasttoken /run/spam
#
# Other commands: docker run --entrypoint lasttoken … lasttoken predict …
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lasttoken
ENV PATH=/opt/lasttoken/bin:$PATH
WORKDIR /build
# torch first, in a layer of its own: it is most of the image, and changes rarely
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --constraint constraints.txt ".[serve]"

FROM python:3.11-slim
RUN groupadd --gid 10001 lasttoken && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin lasttoken
COPY --from=build /opt/lasttoken /opt/lasttoken
# /tmp is the only folder that is written to: copies of the runs, which workers share, and the cache. No value is a secret:
# hadolint ignore=DL3064
ENV PATH=/opt/lasttoken/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    LASTTOKEN_CACHE=/tmp/lasttoken-cache \
    LASTTOKEN_WORKERS=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["sh", "-c", "exec lasttoken serve \"$@\" --host 0.0.0.0 --port 8000 --workers \"$LASTTOKEN_WORKERS\"", "serve"]
CMD ["/run/model"]
