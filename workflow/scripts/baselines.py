"""Write the captions of all that train nothing."""

from pathlib import Path

from siglip_study.base.forkserver import run_in_fork
from siglip_study.base.jobs import job, loading
from siglip_study.config import parse
from siglip_study.study.cells import HELD_OUT, SPLITS

run_in_fork(parse(snakemake.config).runtime.keep_loaded_s)
with job(snakemake.log[0], snakemake.output, snakemake.input):
    with loading():
        from siglip_study.base.io import read_parquet
        from siglip_study.features.scorer import Scorer
        from siglip_study.features.store import read_frame_embeddings
        from siglip_study.models.devices import device_of
        from siglip_study.scoring.baselines import write_adversaries, write_retrieval

    config = parse(snakemake.config)
    manifest = read_parquet(snakemake.input.clips)
    write_retrieval(
        manifest=manifest,
        features=dict(zip(SPLITS, map(Path, snakemake.input.features), strict=True)),
        splits=HELD_OUT,
        out=Path(snakemake.output.retrieval),
    )
    choosing = HELD_OUT if config.cross_fit else ("selection",)
    frames = dict(zip(choosing, map(read_frame_embeddings, snakemake.input.frames), strict=True))
    write_adversaries(
        manifest=manifest,
        frames={
            split: {clip: rows.numpy() for clip, rows in found.items()}
            for split, found in frames.items()
        },
        scorer=Scorer.from_config(config.scorer, device_of(config.runtime)),
        generic_out=Path(snakemake.output.generic),
        category_out=Path(snakemake.output.category),
    )
