"""Check every clip and caption; list what is usable and what is not."""

from pathlib import Path

from siglip_study.base.jobs import job
from siglip_study.config import parse

with job(snakemake.log[0]):
    from siglip_study.base.io import write_parquet
    from siglip_study.data.manifest import build_manifest, halve_split

    config = parse(snakemake.config)
    data = config.data
    manifest, rejected = build_manifest(Path(snakemake.params.root), data, config.sampled_frames)
    if "held_out" in data.splits:
        manifest = halve_split(manifest)
    write_parquet(snakemake.output.manifest, manifest)
    write_parquet(snakemake.output.rejected, rejected)
