"""Caption held-out clips: take what was made right after training, else load the checkpoint."""

from pathlib import Path

from siglip_study.base.io import remove_dir
from siglip_study.base.jobs import job, loading, log
from siglip_study.captioning.handover import handover_folder, take_handover
from siglip_study.config import parse
from siglip_study.study import Study
from siglip_study.training import code as training_code

with job(snakemake.log[0], snakemake.output, snakemake.input):
    study = Study(parse(snakemake.config))
    config = study.config
    cell = study.cells[snakemake.wildcards.cell]
    checkpoint = Path(snakemake.input.checkpoint)
    out = Path(snakemake.output.captions).parent
    # Stage 2 has succeeded, so nothing will ask for its resume point again.
    remove_dir(study.stage2_resume(cell, training_code(cell.run.projector)))
    splits, read = ("train", *cell.captioned), snakemake.input
    clips = dict(zip(splits, map(Path, (read.train_clips, *read.clips)), strict=True))
    features = dict(zip(splits, map(Path, (read.train, *read.features)), strict=True))
    handover = handover_folder(study.paths, cell, checkpoint, clips, features, config.captions)
    if not take_handover(handover, out):
        log.info("captions of %s, from its checkpoint", cell.name)
        with loading():
            from siglip_study.captioning.cell import caption_from_checkpoint
            from siglip_study.runs.run import Inputs

        caption_from_checkpoint(
            cell,
            Inputs(clips, features),
            checkpoint,
            config.captions,
            config.runtime,
            out,
        )
