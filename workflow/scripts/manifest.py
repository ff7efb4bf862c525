"""Check every clip and caption; list what is usable and what is not."""

from siglip_study.base.forkserver import import_ahead
from siglip_study.base.jobs import job, log
from siglip_study.config import parse

with job(snakemake.log[0]):
    # While this job works, so that the first one with a model need not wait.
    import_ahead(parse(snakemake.config).runtime.keep_imported_s)
    from siglip_study.base.io import write_parquet
    from siglip_study.data.manifest import build_manifest, halve_split
    from siglip_study.data.summary import summarise, write_summary

    config = parse(snakemake.config)
    data = config.data
    built = build_manifest(config.data_root, data, config.sampled_frames)
    manifest = halve_split(built.clips) if "held_out" in data.splits else built.clips
    write_parquet(snakemake.output.manifest, manifest)
    write_parquet(snakemake.output.rejected, built.rejected)
    summary = summarise(manifest, built.rejected, built.left_out, data.decoder)
    write_summary(snakemake.output.summary, summary)
    log.info("%s.", summary.line(snakemake.output.rejected))
