# CPU by default:
#     docker build -t rlhf-bench .
#     docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" rlhf-bench train all
#     docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" rlhf-bench eval --suite hh-test
# With CUDA, and `--gpus all` at run time (the host's driver is used, the libraries come with torch):
#     docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 -t rlhf-bench:cuda .
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras to install beside the core, in brackets: --build-arg EXTRAS="[peft,tracking]"
ARG EXTRAS=""

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# torch alone first: the big layer is reused as long as these lines stay as they are.
RUN pip install "torch>=2.9,<2.14" --index-url "$TORCH_INDEX"

COPY pyproject.toml README.md LICENSE /src/
COPY rlhf_bench /src/rlhf_bench
COPY trainers /src/trainers
COPY suites /src/suites
RUN pip install "/src$EXTRAS"

# Not root; caches go where any user may write, so that --user works with a mounted folder.
RUN useradd --create-home --uid 1000 bench \
    && mkdir -p /work /cache \
    && chown bench /work \
    && chmod 1777 /cache
ENV HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib
USER bench
WORKDIR /work

ENTRYPOINT ["rlhf-bench"]
CMD ["--help"]
