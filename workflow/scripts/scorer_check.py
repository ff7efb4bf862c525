"""Ask whether the scorer can tell human captions of their own clip from those of others."""

from pathlib import Path

from siglip_study.base.forkserver import run_in_fork
from siglip_study.base.jobs import job, loading
from siglip_study.config import parse

run_in_fork(parse(snakemake.config).runtime.keep_loaded_s)
with job(snakemake.log[0], snakemake.output, snakemake.input):
    with loading():
        from siglip_study.base.io import read_parquet
        from siglip_study.features.scorer import Scorer
        from siglip_study.features.store import read_frame_embeddings
        from siglip_study.models.devices import device_of
        from siglip_study.ranking.scorer_check import check_references

    config = parse(snakemake.config)
    settings = config.scorer
    splits = {name: Path(snakemake.input[name]) for name in ("selection", "report")}
    check_references(
        manifest=read_parquet(snakemake.input.clips),
        frames={
            split: {clip: frames.numpy() for clip, frames in read_frame_embeddings(path).items()}
            for split, path in splits.items()
        },
        scorer=Scorer.from_config(settings, device_of(config.runtime)),
        settings=settings,
        alpha=snakemake.params.alpha,
        out=Path(snakemake.output.check),
        cross_fit=config.cross_fit,
    )
