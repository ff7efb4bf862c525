"""End the study before training where its scorer cannot tell."""

from pathlib import Path

from siglip_study.base.jobs import job

with job(snakemake.log[0]):
    from siglip_study.base.io import atomic_path
    from siglip_study.ranking.scorer_check import verdict

    sentence = verdict(Path(snakemake.input.check), snakemake.params.stop)
    with atomic_path(Path(snakemake.output.verdict)) as partial:
        partial.write_text(sentence + "\n", encoding="utf-8")
