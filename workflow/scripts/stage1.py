"""Train one projector alone."""

from functools import partial
from pathlib import Path

from siglip_study.base.jobs import job, loading
from siglip_study.base.kept import run_where_loaded
from siglip_study.config import parse
from siglip_study.study import Study
from siglip_study.study.cells import TRAINED_ON
from siglip_study.study.progress import progress_line


def main() -> None:
    with loading():
        from siglip_study.runs.run import Inputs
        from siglip_study.training.stages import StageJob, run_stage

    study = Study(parse(snakemake.config))
    cell = study.stage1_cells[snakemake.wildcards.stage1]
    run_stage(
        StageJob(
            number=1,
            cell=cell,
            inputs=Inputs.of(TRAINED_ON, snakemake.input.clips, snakemake.input.features),
            out=Path(snakemake.output.stage).parent,
            resume=Path(snakemake.params.resume),
            runtime=study.config.runtime,
            progress=partial(progress_line, study),
        )
    )


# Ranks that share a training run this file too, as a module.
if __name__ == "__main__":
    runtime = parse(snakemake.config).runtime
    run_where_loaded(runtime.keep_loaded_s, runtime.device, runtime.gpus)
    with job(snakemake.log[0], snakemake.output, snakemake.input):
        main()
