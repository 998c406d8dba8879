# Images of the commands, for a CPU or an NVIDIA GPU; neither holds weights but the embedded ones.
#
#   docker build -t eg3d-jax .
#   docker run --rm -v "$PWD:/data" eg3d-jax invert --frames video --run runs/head
#
#   docker build -t eg3d-jax-gpu --target gpu .
#   docker run --rm --gpus all -v "$PWD:/data" eg3d-jax-gpu invert --frames video --run runs/head
#
# The viewer wants a port: -p 127.0.0.1:8080:8080, and `view --host 0.0.0.0` within. Add
# --user "$(id -u):$(id -g)" where the folder is not of user 1000.

# The GPU's libraries come with jax[cuda12]; the base brings what the driver of the host looks for.
FROM nvidia/cuda:12.9.1-base-ubuntu24.04 AS gpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/eg3d_jax
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY eg3d_jax eg3d_jax
COPY convert_weights convert_weights
COPY inversion inversion
COPY experiments experiments
RUN /opt/eg3d_jax/bin/pip install --no-cache-dir -c constraints.txt '.[cuda,footage,mesh,view]'
ENV PATH="/opt/eg3d_jax/bin:$PATH" XDG_CACHE_HOME=/cache HOME=/cache
# Compiled programs are kept there: mount a volume to keep them for the next start.
RUN install -d -m 1777 /cache /data
USER 1000
WORKDIR /data
ENTRYPOINT ["eg3d-jax"]
CMD ["--help"]

# The last one is what is built without --target.
FROM python:3.11-slim-bookworm AS cpu
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY eg3d_jax eg3d_jax
COPY convert_weights convert_weights
COPY inversion inversion
COPY experiments experiments
RUN python -m venv /opt/eg3d_jax \
    && /opt/eg3d_jax/bin/pip install --no-cache-dir -c constraints.txt '.[footage,mesh,view]'
ENV PATH="/opt/eg3d_jax/bin:$PATH" XDG_CACHE_HOME=/cache HOME=/cache
RUN install -d -m 1777 /cache /data
USER 1000
WORKDIR /data
ENTRYPOINT ["eg3d-jax"]
CMD ["--help"]
