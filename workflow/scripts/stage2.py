"""Train a cell, projector and adapters; caption with it while it is loaded."""

from functools import partial
from pathlib import Path

from siglip_study.base.io import remove_dir
from siglip_study.base.jobs import job, loading
from siglip_study.base.kept import run_where_loaded
from siglip_study.config import parse
from siglip_study.study import Study
from siglip_study.study.cells import TRAINED_ON
from siglip_study.study.progress import progress_line


def main() -> None:
    with loading():
        from siglip_study.captioning.cell import caption_while_loaded
        from siglip_study.runs.run import Inputs
        from siglip_study.training import code as training_code
        from siglip_study.training.stages import StageJob, run_stage

    study = Study(parse(snakemake.config))
    config, paths = study.config, study.paths
    cell = study.cells[snakemake.wildcards.cell]
    # Stage 1 has succeeded, so nothing will ask for its resume point again.
    remove_dir(study.stage1_resume(cell, training_code(cell.run.projector)))
    read = snakemake.input
    run_stage(
        StageJob(
            number=2,
            cell=cell,
            inputs=Inputs.of(
                (*TRAINED_ON, *cell.captioned_beside),
                (*read.clips, *read.captioned_clips),
                (*read.features, *read.captioned),
            ),
            out=Path(snakemake.output.cell).parent,
            resume=Path(snakemake.params.resume),
            runtime=config.runtime,
            progress=partial(progress_line, study),
            stage1=paths.stage1(cell.stage1_name) if cell.has_stage1 else None,
            while_loaded=partial(
                caption_while_loaded,
                cell=cell,
                settings=config.captions,
                runtime=config.runtime,
                checkpoint=Path(snakemake.output.checkpoint),
                paths=paths,
            ),
        )
    )


# Ranks that share a training run this file too, as a module.
if __name__ == "__main__":
    runtime = parse(snakemake.config).runtime
    run_where_loaded(runtime.keep_loaded_s, runtime.device, runtime.gpus)
    with job(snakemake.log[0], snakemake.output, snakemake.input):
        main()
