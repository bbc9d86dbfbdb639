# gem-lightning with its shipped model. Nothing is fetched when it runs, as an ordinary user.
#   docker build -t gem-lightning .                                    CPU
#   docker build -t gem-lightning:cuda --build-arg TORCH=cu130 .       any backend of `uv pip install --torch-backend`
#   docker run --rm -p 127.0.0.1:8000:8000 gem-lightning               page and API
#   docker run --rm --network none -v "$PWD:/data:ro" gem-lightning gem-lightning measure /data/ecg.dcm
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
ARG EXTRAS=formats,serve,mcp
WORKDIR /build
RUN python -m pip install --no-cache-dir uv==0.13.9 && python -m venv /opt/gem
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY src src
RUN uv pip install --no-cache --compile-bytecode --python /opt/gem/bin/python --torch-backend "${TORCH}" \
    -c constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 10001 gem
COPY --from=build /opt/gem /opt/gem
# numba's cache goes where the user may write; the hubs are never asked
ENV PATH=/opt/gem/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1
WORKDIR /home/gem
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz')"]
USER 10001
# 0.0.0.0 is the container's own address; beyond this machine: tokens, trusted_hosts and TLS, see docs/serving.md
CMD ["python", "-m", "gem_lightning.serve", "model=gem_small", "host=0.0.0.0"]
