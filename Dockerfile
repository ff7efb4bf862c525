# The study without a GPU:
#
#     docker build -t siglip-study .
#     docker run --rm -v "$PWD/results:/study/results" siglip-study
#
# With clips of your own: -v "$PWD/data:/study/data" -v "$PWD/config:/study/config" and, after the
# image's name, the command: snakemake --cores all --configfile config/laptop.yaml
FROM python:3.11-slim
WORKDIR /study
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY src src
# Torch without CUDA; the lock takes it as it is.
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements.txt
COPY . .
CMD ["snakemake", "--cores", "all", "--resources", "gpu=1"]
