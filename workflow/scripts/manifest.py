"""Join the clips of all splits and what is not used into tables for people, and count them."""

from siglip_study.base.jobs import job, log
from siglip_study.config import parse

with job(snakemake.log[0], snakemake.output, snakemake.input):
    from siglip_study.base.io import read_parquet, write_parquet
    from siglip_study.data.summary import Unused, read_unused, summarise, write_summary

    manifest = read_parquet(snakemake.input.clips)
    unused = Unused.joined(map(read_unused, snakemake.input.unused))
    write_parquet(snakemake.output.manifest, manifest)
    write_parquet(snakemake.output.rejected, unused.table())
    summary = summarise(manifest, unused, parse(snakemake.config).data.decoder)
    write_summary(snakemake.output.summary, summary)
    log.info("%s.", summary.line(snakemake.output.rejected))
