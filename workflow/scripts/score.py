"""Score every captioner of a phase on its held-out clips."""

from pathlib import Path

from siglip_study.base.forkserver import run_in_fork
from siglip_study.base.jobs import job, loading
from siglip_study.config import parse
from siglip_study.study import Study

run_in_fork(parse(snakemake.config).runtime.keep_loaded_s)
with job(snakemake.log[0], snakemake.output, snakemake.input):
    with loading():
        from siglip_study.base.io import read_parquet
        from siglip_study.features.store import read_frame_embeddings
        from siglip_study.scoring.inputs import read_facts
        from siglip_study.scoring.scores import score_study
        from siglip_study.scoring.split_scorer import ScoreModels, ScoreSettings

    study = Study(parse(snakemake.config))
    config = study.config
    score_study(
        study,
        snakemake.wildcards.phase,
        manifest=read_parquet(snakemake.input.clips),
        frames={Path(path): read_frame_embeddings(path) for path in snakemake.input.frames},
        models=ScoreModels(
            ScoreSettings(
                config.scorer,
                config.bertscore,
                config.data.language,
                snakemake.params.version,
                config.runtime,
            )
        ),
        facts=read_facts(study.paths.demo / "facts.json") if config.demo else None,
        out=Path(snakemake.output.scores),
        workers=snakemake.threads,
    )
