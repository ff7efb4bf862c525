"""Encode the clips of a split once with the frozen vision encoder."""

from functools import partial
from pathlib import Path

from siglip_study.base.forkserver import run_in_fork
from siglip_study.base.jobs import job, loading
from siglip_study.config import parse
from siglip_study.study import Study

run_in_fork(parse(snakemake.config).runtime.keep_loaded_s)
with job(snakemake.log[0], snakemake.output, snakemake.input):
    with loading():
        from siglip_study.base.io import read_parquet
        from siglip_study.data.decoding import read_frames
        from siglip_study.features.pipeline import encode_split
        from siglip_study.features.towers import VisionEncoder
        from siglip_study.models.devices import device_of

    study = Study(parse(snakemake.config))
    config, vision = study.config, study.encoders[snakemake.wildcards.encoder]
    runtime = config.runtime
    encoder = VisionEncoder.from_config(vision, device_of(runtime))
    encode_split(
        read_parquet(snakemake.input.clips),
        root=config.data_root,
        read=partial(read_frames, per_second=vision.frames_per_second),
        encoder=encoder,
        n_frames=vision.frames,
        batch_clips=runtime.encode_batch_clips,
        workers=config.data.workers,
        shard_clips=runtime.shard_clips,
        folder=Path(snakemake.output.features),
        resume_folder=Path(snakemake.params.resume),
    )
