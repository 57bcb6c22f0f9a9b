# syntax=docker/dockerfile:1.7
# Two images from one file:
#   docker build -t makima-tts .                          the embedded preview engine, on any machine
#   docker build -t makima-tts:cuda --target cuda .       Qwen3-TTS too, on an NVIDIA GPU
# torch's wheels from PyPI contain the CUDA libraries; the NVIDIA container toolkit provides the host's driver.
# Every RUN is a script that the tests run too.

FROM python:3.12.12-slim-bookworm AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY requirements requirements
COPY scripts scripts
COPY voices voices
COPY makima_tts makima_tts

FROM source AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip scripts/container-build.sh /opt/makima-tts preview,timings

FROM source AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip scripts/container-build.sh /opt/makima-tts preview,qwen3,timings


FROM python:3.12.12-slim-bookworm AS runtime
LABEL org.opencontainers.image.title="makima-tts" \
      org.opencontainers.image.description="Streaming text-to-speech over a WebSocket" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY scripts/container-folders.sh scripts/healthcheck.py /opt/
RUN /opt/container-folders.sh ""

# HOME and USER: with any user id, libraries need a cache folder and a user name.
ENV PATH=/opt/makima-tts/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/cache \
    USER=makima \
    HF_HOME=/models \
    TTS_HOST=0.0.0.0 \
    TTS_PORT=8001 \
    TTS_CACHE_DIR=/cache \
    TTS_VOICES_DIR=/voices
VOLUME ["/cache", "/models", "/voices"]
WORKDIR /cache
USER 10001:0
EXPOSE 8001
STOPSIGNAL SIGTERM
# Failed checks do not count within the start period: the first start may download a model.
HEALTHCHECK --start-period=20m --interval=10s --timeout=5s --retries=3 \
    CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["makima-tts"]
CMD ["serve"]


FROM runtime AS cuda
USER 0
COPY scripts/container-compiler.sh /opt/
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    /opt/container-compiler.sh
USER 10001:0
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/makima-tts /opt/makima-tts

FROM runtime AS cpu
COPY --from=build-cpu /opt/makima-tts /opt/makima-tts
