"""End the study before training where its scorer cannot tell."""

from pathlib import Path

from siglip_study.base.jobs import job, log

with job(snakemake.log[0], snakemake.output, snakemake.input):
    from siglip_study.base.io import atomic_path
    from siglip_study.ranking.scorer_check import read_check, stop_if_blind
    from siglip_study.report.wording.gate import scorer_check

    path = Path(snakemake.input.check)
    check = read_check(path)
    if snakemake.params.stop:
        stop_if_blind(check, path)
    told = scorer_check(check.deciding).en
    with atomic_path(Path(snakemake.output.verdict)) as partial:
        partial.write_text(told + "\n", encoding="utf-8")
    log.info("%s", told)
