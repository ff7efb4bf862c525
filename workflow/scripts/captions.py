"""Caption a held-out split with a trained cell."""

from pathlib import Path

from siglip_study.config import parse_config
from siglip_study.grid import Study
from siglip_study.jobs import job
from siglip_study.progress import progress_line

with job(snakemake.log[0]):
    from siglip_study.evaluation.captions import run_captions
    from siglip_study.training.stages import Inputs

    study = Study(parse_config(snakemake.config))
    cell = study.cells[snakemake.wildcards.cell]
    features = {cell.captioned: Path(snakemake.input.features)}
    run_captions(
        cell=cell,
        inputs=Inputs(Path(snakemake.input.manifest), features),
        checkpoint=Path(snakemake.input.checkpoint),
        out=Path(snakemake.output.captions).parent,
        settings=study.config.captions,
        runtime=study.config.runtime,
        progress=lambda: progress_line(study),
    )
