"""Put both halves of a held-out split together."""

from pathlib import Path

from siglip_study.choice import read_choice
from siglip_study.config import parse_config
from siglip_study.grid import Study
from siglip_study.jobs import job

with job(snakemake.log[0]):
    from siglip_study.evaluation.pooling import pool_study
    from siglip_study.io import read_json

    study = Study(parse_config(snakemake.config))
    paths = study.paths
    pool_study(
        paths,
        study.parts(read_choice(Path(snakemake.input.selection))),
        Path(snakemake.output.pooled),
        facts=study.config.demo and read_json(paths.demo / "facts.json", "facts/1"),
    )
