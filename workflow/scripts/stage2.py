"""Train a cell: projector and adapters."""

from pathlib import Path

from siglip_study.config import parse_config
from siglip_study.grid import Study
from siglip_study.jobs import job
from siglip_study.progress import progress_line

with job(snakemake.log[0]):
    from siglip_study.training.stages import Inputs, run_stage2

    study = Study(parse_config(snakemake.config))
    cell = study.cells[snakemake.wildcards.cell]
    features = {"train": snakemake.input.train, "selection": snakemake.input.selection}
    run_stage2(
        cell=cell,
        inputs=Inputs(Path(snakemake.input.manifest), {k: Path(v) for k, v in features.items()}),
        stage1=Path(snakemake.input.stage1_facts).parent,
        out=Path(snakemake.output.cell).parent,
        resume_folder=Path(snakemake.params.resume),
        runtime=study.config.runtime,
        progress=lambda: progress_line(study),
    )
