"""Embed the frames of a held-out split once with the scorer."""

from pathlib import Path

from siglip_study.base.forkserver import run_in_fork
from siglip_study.base.jobs import job, loading
from siglip_study.config import parse

run_in_fork(parse(snakemake.config).runtime.keep_loaded_s)
with job(snakemake.log[0], snakemake.output, snakemake.input):
    with loading():
        from siglip_study.base.io import read_parquet
        from siglip_study.data.decoding import read_frames
        from siglip_study.features.pipeline import embed_split
        from siglip_study.features.scorer import Scorer
        from siglip_study.models.devices import device_of

    config = parse(snakemake.config)
    settings, runtime = config.scorer, config.runtime
    scorer = Scorer.from_config(settings, device_of(runtime))
    embed_split(
        read_parquet(snakemake.input.clips),
        root=config.data_root,
        read=read_frames,
        scorer=scorer,
        n_frames=settings.frames,
        batch_clips=runtime.encode_batch_clips,
        workers=config.data.workers,
        path=Path(snakemake.output.features),
    )
