"""Put both halves of a held-out split together."""

from pathlib import Path

from siglip_study.base.jobs import job
from siglip_study.config import parse
from siglip_study.study.grid import Study, read_choice

with job(snakemake.log[0]):
    from siglip_study.base.io import read_json
    from siglip_study.ranking.pooling import pool_study

    study = Study(parse(snakemake.config))
    paths = study.paths
    pool_study(
        paths,
        study.parts(read_choice(Path(snakemake.input.selection))),
        Path(snakemake.output.pooled),
        facts=study.config.demo and read_json(paths.demo / "facts.json", "facts/1"),
    )
