"""Write the captions of the references and of the nearest training clip."""

from pathlib import Path

from siglip_study.grid import SPLITS
from siglip_study.jobs import job

with job(snakemake.log[0]):
    import polars as pl

    from siglip_study.evaluation.baselines import write_baselines

    write_baselines(
        manifest=pl.read_parquet(snakemake.input.manifest),
        features=dict(zip(SPLITS, map(Path, snakemake.input.features), strict=True)),
        splits=("selection", "report"),
        references_out=Path(snakemake.output.references),
        retrieval_out=Path(snakemake.output.retrieval),
    )
