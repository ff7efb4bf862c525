"""End the study before training where its scorer cannot tell."""

from pathlib import Path

from siglip_study.jobs import job

with job(snakemake.log[0]):
    from siglip_study.evaluation.scorer_check import verdict
    from siglip_study.io import atomic_path

    sentence = verdict(Path(snakemake.input.check), snakemake.params.stop)
    with atomic_path(Path(snakemake.output.verdict)) as partial:
        partial.write_text(sentence + "\n", encoding="utf-8")
