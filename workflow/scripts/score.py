"""Score every captioner of a scoring job."""

from pathlib import Path

from siglip_study.base.jobs import job, loading
from siglip_study.config import parse
from siglip_study.study.grid import Study

with job(snakemake.log[0]):
    with loading():
        import polars as pl

        from siglip_study.base.io import read_json
        from siglip_study.features.store import read_frame_embeddings
        from siglip_study.scoring.scores import (
            captioners_of,
            fit_on_references,
            reference_temperature,
            score_split,
        )
        from siglip_study.scoring.split_scorer import ScoreSettings, SplitScorer

    study = Study(parse(snakemake.config))
    config, paths = study.config, study.paths
    scoring = study.scorings[snakemake.wildcards.scoring]
    split = scoring.split
    embedded = [
        {clip: rows.numpy() for clip, rows in read_frame_embeddings(path).items()}
        for path in snakemake.input.frames
    ]
    chosen_on = paths.run("references.selection")
    facts = config.demo and read_json(paths.demo / "facts.json", "facts/1")
    manifest = pl.read_parquet(snakemake.input.manifest)
    scorer = SplitScorer(
        split,
        manifest,
        embedded[0],
        ScoreSettings(
            config.scorer,
            config.bertscore,
            config.data.language,
            snakemake.params.version,
            config.runtime,
        ),
        facts,
        None if scoring.other else reference_temperature(chosen_on, split),
    )
    if scoring.other:
        scorer.temperature = fit_on_references(manifest, scoring.other, embedded[1], scorer.scorer)
    score_split(
        captioners_of(study, scoring),
        scorer,
        Path(snakemake.input.frames[0]),
        Path(snakemake.output.scores),
        cache=paths.root / ".cache",
        workers=snakemake.threads,
    )
