"""Write the one-file report."""

import datetime
from pathlib import Path

from siglip_study.base.jobs import job, log
from siglip_study.config import parse, plain_config
from siglip_study.study import Study

with job(snakemake.log[0], snakemake.output, snakemake.input):
    from siglip_study.data.summary import read_summary
    from siglip_study.report.gallery import GallerySettings
    from siglip_study.report.page import write_report
    from siglip_study.report.pictures import clip_pictures
    from siglip_study.study import versions

    study = Study(parse(snakemake.config))
    config = study.config
    templates = Path(snakemake.params.templates)
    write_report(
        study.paths.root,
        templates,
        Path(snakemake.output.report),
        title=config.report.title,
        language=config.report.language,
        figures=Path(snakemake.output.figures),
        config=plain_config(config),
        provenance={
            "command": "snakemake --cores 1 --resources gpu=1 --configfile config.yaml",
            "git_commit": versions.git_commit(),
            "source_hash": versions.source_hash(),
            "versions": versions.versions(),
            "date": datetime.date.today().isoformat(),
        },
        gallery=GallerySettings(
            pictures=clip_pictures(
                Path(snakemake.input.manifest),
                config.data_root,
                config.report.gallery_frames,
            ),
            frames=config.report.gallery_frames,
            max_picture_clips=config.report.gallery_clips,
        ),
        # Beside a study that repeats those runs; elsewhere they would only confuse.
        published=templates.parent / "resources" / "published_runs.json"
        if config.presets
        else None,
    )
    # Told when it was checked, far above by now.
    log.info("%s.", read_summary(snakemake.input.summary).line(study.paths.rejected))
    log.info("The report: %s", snakemake.output.report)
