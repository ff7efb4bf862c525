"""Choose each projector's cell on the selection split."""

from pathlib import Path

from siglip_study.config import parse_config
from siglip_study.grid import Study
from siglip_study.jobs import job

with job(snakemake.log[0]):
    from siglip_study.evaluation.selection import select_tuned
    from siglip_study.ranking.gate import GateThresholds

    study = Study(parse_config(snakemake.config))
    select_tuned(
        study.tuning,
        [study.paths.run(cell.name) for cell in study.tuning],
        study.paths.run("references.selection"),
        GateThresholds(**snakemake.params.gate),
        Path(snakemake.output.selection),
    )
