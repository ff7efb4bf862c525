"""Time what the study will do, and print what it will cost."""

from siglip_study.base.jobs import job, log
from siglip_study.config import parse
from siglip_study.study.paths import Paths

with job(snakemake.log[0]):
    from siglip_study.planning.rehearse import rehearse

    config = parse(snakemake.config)
    found = rehearse(config)
    found.write(Paths(config.output_dir).root)
    log.info("%s", found.text())
