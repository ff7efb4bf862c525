"""Choose each projector's cell on clips that do not report it."""

from pathlib import Path

from siglip_study.base.jobs import job
from siglip_study.config import parse
from siglip_study.study import Study

with job(snakemake.log[0], snakemake.output, snakemake.input):
    from siglip_study.ranking.gate import GateThresholds
    from siglip_study.ranking.selection import select_tuned

    study = Study(parse(snakemake.config))
    select_tuned(
        [[(run, study.paths.run(run.name)) for run in runs] for runs in study.points],
        study.references("tuning"),
        GateThresholds(**snakemake.params.gate),
        Path(snakemake.output.selection),
        halves=study.scored_splits("tuning") if study.cross_fit else (),
    )
