"""Score every captioner of a split."""

from pathlib import Path

from siglip_study.config import parse_config
from siglip_study.grid import BASELINES, Study
from siglip_study.jobs import job

with job(snakemake.log[0]):
    import polars as pl

    from siglip_study.evaluation.scores import (
        Captioner,
        ScoreSettings,
        SplitScorer,
        reference_temperature,
        score_split,
    )
    from siglip_study.features.scorer import read_frame_embeddings
    from siglip_study.io import read_json

    study = Study(parse_config(snakemake.config))
    config, paths, split = study.config, study.paths, snakemake.wildcards.split
    chosen: list[str] = []
    if split == "report":
        projectors = read_json(paths.selection, "selection/1")["projectors"]
        chosen = [row["chosen"] for row in projectors.values()]
    roles = {name: role for name, (role, _) in BASELINES.items()}
    captioners = [
        Captioner(
            name,
            roles[name] if name in roles else study.cells[name].role,
            paths.run(name),
            paths.captions(name),
        )
        for name in study.captioners(split, chosen)
    ]
    frames_path = Path(snakemake.input.frames)
    facts = config.demo and read_json(paths.demo / "facts.json", "facts/1")
    temperature = reference_temperature(paths.run("references.selection"), split)
    scorer = SplitScorer(
        split,
        pl.read_parquet(snakemake.input.manifest),
        {clip: frames.numpy() for clip, frames in read_frame_embeddings(frames_path).items()},
        ScoreSettings(
            config.scorer,
            config.bertscore,
            config.data.language,
            snakemake.params.code,
            config.runtime,
        ),
        facts,
        temperature,
    )
    score_split(
        captioners,
        scorer,
        frames_path,
        Path(snakemake.output.scores),
        cache=paths.root / ".cache",
        workers=snakemake.threads,
    )
