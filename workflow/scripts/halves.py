"""Divide the held-out clips into selection and report, never within a source video."""

from siglip_study.base.jobs import job

with job(snakemake.log[0], snakemake.output, snakemake.input):
    import polars as pl

    from siglip_study.base.io import read_parquet, write_parquet
    from siglip_study.data.manifest import halve_split

    halved = halve_split(read_parquet(snakemake.input.clips))
    for split in ("selection", "report"):
        write_parquet(snakemake.output[split], halved.filter(pl.col("split") == split))
