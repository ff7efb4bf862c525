"""Choose each projector's cell on clips that do not report it."""

from pathlib import Path

from siglip_study.base.jobs import job
from siglip_study.config import parse
from siglip_study.study.cells import HELD_OUT
from siglip_study.study.grid import Study

with job(snakemake.log[0]):
    from siglip_study.ranking.gate import GateThresholds
    from siglip_study.ranking.selection_by_halves import select_by_halves
    from siglip_study.ranking.selection_file import select_tuned

    study = Study(parse(snakemake.config))
    paths = study.paths
    thresholds = GateThresholds(**snakemake.params.gate)
    out = Path(snakemake.output.selection)
    if study.cross_fit:
        select_by_halves(
            study.tuning,
            {half: [paths.scored(cell.name, half) for cell in study.tuning] for half in HELD_OUT},
            {half: paths.scored("references", half) for half in HELD_OUT},
            thresholds,
            out,
        )
    else:
        select_tuned(
            study.tuning,
            [paths.run(cell.name) for cell in study.tuning],
            paths.run("references.selection"),
            thresholds,
            out,
        )
