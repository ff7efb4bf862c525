"""Check every clip and caption of a split; list what is usable and what is not."""

from siglip_study.base.forkserver import import_ahead
from siglip_study.base.jobs import job, log
from siglip_study.config import parse

with job(snakemake.log[0], snakemake.output, snakemake.input):
    # While this job works, so that the first one with a model need not wait.
    import_ahead(parse(snakemake.config).runtime.keep_loaded_s)
    from siglip_study.base.io import write_parquet
    from siglip_study.data.manifest import vet_split

    config = parse(snakemake.config)
    clips, unused = vet_split(
        config.data_root, config.data, snakemake.wildcards.split, config.sampled_frames
    )
    unused.write(snakemake.output.unused)
    write_parquet(snakemake.output.clips, clips)
    log.debug("%d clips, %d not usable", clips.height, len(unused.rejected))
