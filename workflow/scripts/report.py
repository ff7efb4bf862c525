"""Write the one-file report."""

from pathlib import Path

from siglip_study.config import parse_config, plain_config
from siglip_study.grid import Study
from siglip_study.jobs import job

with job(snakemake.log[0]):
    from siglip_study import provenance
    from siglip_study.reporting.gallery import GallerySettings
    from siglip_study.reporting.page import write_report
    from siglip_study.reporting.pictures import clip_pictures

    study = Study(parse_config(snakemake.config))
    config = study.config
    templates = Path(snakemake.params.templates)
    write_report(
        study.paths.root,
        templates,
        Path(snakemake.output.report),
        title=config.report.title,
        config=plain_config(config),
        provenance={
            "command": "snakemake --cores 1 --resources gpu=1 --configfile config.yaml",
            "git_commit": provenance.git_commit(),
            "source_hash": provenance.source_hash(),
            "versions": provenance.versions(),
        },
        gallery=GallerySettings(
            frames=clip_pictures(
                Path(snakemake.input.manifest),
                config.data_root,
                config.data.decoder,
                config.report.gallery_frames,
            ),
            max_picture_clips=config.report.gallery_clips,
        ),
        # Beside a study that repeats those runs; elsewhere they would only confuse.
        published=templates.parent / "resources" / "published_runs.json"
        if config.presets
        else None,
    )
