"""Test the differences, rank the projectors, write the published tables."""

from pathlib import Path

from siglip_study.base.jobs import job, log
from siglip_study.config import parse
from siglip_study.study.grid import Study, read_choice

with job(snakemake.log[0], snakemake.output, snakemake.input):
    from siglip_study.ranking.from_scores import rank_projectors
    from siglip_study.ranking.gate import GateThresholds
    from siglip_study.ranking.procedure import read_ranking
    from siglip_study.ranking.scorer_check import read_check
    from siglip_study.ranking.selection import read_selection
    from siglip_study.report.tables import build_tables
    from siglip_study.report.wording.conclusion import answer

    study = Study(parse(snakemake.config))
    paths = study.paths
    choice = read_choice(Path(snakemake.input.selection))
    thresholds = GateThresholds(**snakemake.params.gate)
    entrants = study.entrants(choice)
    rank_projectors(
        runs={
            label: [paths.run(own.name) for own in entrants if own.label == label]
            for label in choice
        },
        references=paths.run("references"),
        retrieval=paths.run("retrieval"),
        selection=read_selection(Path(snakemake.input.selection)),
        scorer=read_check(Path(snakemake.input.scorer_check)).deciding,
        thresholds=thresholds,
        halved="held_out" in study.config.data.splits and not study.cross_fit,
        cross_fitted=study.cross_fit,
        out=Path(snakemake.output.ranking),
    )
    build_tables(paths.root, study.by_role(choice), thresholds)
    log.info("%s", answer(read_ranking(Path(snakemake.output.ranking))).en)
