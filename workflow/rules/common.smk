# The study that the config spells out. Everything a rule knows about cells and paths it asks here.
import gc
import os
import re
import sys
from pathlib import Path

import siglip_study
from siglip_study.base.errors import Damaged, StudyError
from siglip_study.base.head import StartedWith, begin, follow
from siglip_study.base.head import take_lead, unwritable
from siglip_study.base.io import file_digests
from siglip_study.base.jobs import made_anew

# Under another name: rules share their namespace with Snakemake, which has a `parse`.
from siglip_study.config import parse as parsed, read as read_config
from siglip_study.data.fingerprint import split_digests
from siglip_study.data.layouts import layout_file
from siglip_study.projectors.registry import projector_files
from siglip_study.study.cells import HELD_OUT, SPLITS, TRAINED_ON, keys_hash
from siglip_study.study.grid import PHASES, Study, cell_pattern, read_choice
from siglip_study.training import code as training_code

# The plan of a thousand cells is millions of objects that stay: looking for garbage among them
# again and again is a tenth of planning.
gc.set_threshold(100_000, 20, 100)


def refuse(sentence):
    """End before anything runs, in one sentence; an exception would come with its file and line."""
    raise SystemExit(f"siglip-study: {sentence}")


# What Snakemake's jobs cannot be started with; everything else in a path works.
HOUSE = Path(str(workflow.current_basedir)).parent.parent
if "{" in str(HOUSE) or "}" in str(HOUSE):
    refuse(
        f"the study lies in {HOUSE}; expected a folder without braces, which Snakemake takes for "
        "wildcards."
    )
if any(c.isspace() or c in "\\'\"$&;()<>|`*?#!" for c in sys.executable):
    refuse(
        f"Python is {sys.executable}; expected an environment in a folder without blanks, quotes "
        "and the like, with which Snakemake cannot start jobs (the study itself may lie in one)."
    )

IS_DRY = workflow.output_settings.dryrun or not workflow.is_main_process

try:
    for file in workflow.configfiles:
        # Snakemake takes the last of two keys of a name without a word.
        read_config(file)
    STUDY = Study(parsed(config))
    PROJECTORS = sorted({cell.run.projector for cell in STUDY.cells.values()})
    for name in PROJECTORS:
        # Found by name alone, without building it.
        training_code(name)
    # A study's own code may lie anywhere.
    OWN_CODE = {
        file for name in PROJECTORS if ":" in name for file in projector_files(name)
    } | {layout_file(STUDY.config.data.layout)}
    STUDY.paths.require_folder()
    # What the clips and captions of each split are; with another one they are checked again.
    LISTED = split_digests(STUDY.config)
except Damaged as error:
    refuse(error if IS_DRY else made_anew(error))
except StudyError as error:
    refuse(error)
except OSError as error:
    refuse(unwritable(STUDY.paths.root, error))

CONFIG = STUDY.config
PATHS = STUDY.paths

# What a study was started with stays until it ends; one process leads it (base/head.py).
PACKAGE = Path(siglip_study.__file__).parent
STARTED_WITH = StartedWith.now(
    config,
    [
        *(PACKAGE, HOUSE / "workflow", HOUSE / "Snakefile"),
        *sorted(file for file in OWN_CODE if not file.is_relative_to(PACKAGE)),
    ],
)
LED_BY = None
if not workflow.is_main_process:
    try:
        follow(PATHS.head, STARTED_WITH)
    except StudyError as error:
        refuse(error)
elif not workflow.output_settings.dryrun:
    LED_BY = take_lead(PATHS.head.parent, Path(".snakemake/locks"))
    if LED_BY:
        print(f"siglip-study: {LED_BY}", file=sys.stderr)


onstart:
    if LED_BY:
        refuse(LED_BY)
    try:
        begin(PATHS.head, STARTED_WITH)
    except StudyError as error:
        refuse(error)


def growing(amount):
    """So much at first, and as much again each time that a scheduler ended the job."""
    return lambda wildcards, attempt: attempt * amount


# A job with a model has a GPU; where the config keeps to the CPU, cores that are counted. On a
# cluster there is no telling how many: head and node must say the same.
ON_CLUSTER = workflow.remote_exec or workflow.resource_settings.nodes is not None
CORES = 1 if ON_CLUSTER else workflow.resource_settings.cores
if not ON_CLUSTER and Path(workflow.main_snakefile).is_relative_to(HOUSE):
    # Snakemake would import it to ask of each parameter whether it is one of its tables: half a
    # second of every run. Clusters' plugins have tables of their own, and so may a workflow of which
    # this one is a module; jobs are processes.
    sys.modules.setdefault("pandas", None)
ON_CPU = CONFIG.runtime.device == "cpu"
MODEL_THREADS = (CONFIG.runtime.cpu_threads or CORES or 1) if ON_CPU else 1
GPU = {
    "gpu": 0 if ON_CPU else 1,
    "mem_mb": growing(CONFIG.runtime.mem_mb),
    "runtime": growing(CONFIG.runtime.runtime_minutes),
}
# A training job works on several GPUs; what it computes does not depend on how many.
TRAINING_GPUS = {**GPU, "gpu": 0 if ON_CPU else CONFIG.runtime.gpus}
# By a name that stays when the whole folder moves, and by content: a fresh checkout's are new.
TEMPLATES = Path(os.path.relpath(HOUSE / "report"))
TEMPLATES_HASH = keys_hash(file_digests(TEMPLATES))
REPORT_FILES = [str(path) for path in sorted(TEMPLATES.rglob("*")) if path.is_file()]
CLIPS = {split: PATHS.clips(split) for split in SPLITS}
FEATURES = {
    encoder: {split: PATHS.features(encoder, split) for split in SPLITS}
    for encoder in STUDY.encoders
}
SCORER_FEATURES = {
    split: PATHS.scorer_features(STUDY.scorer_slug, split) for split in HELD_OUT
}
# Held-out splits that choose.
CHOOSING = HELD_OUT if STUDY.cross_fit else ("selection",)


wildcard_constraints:
    cell=cell_pattern(STUDY.cells),
    encoder="|".join(map(re.escape, STUDY.encoders)),
    stage1=cell_pattern(STUDY.stage1_cells),
    phase="|".join(PHASES),
    split="|".join(SPLITS),


def of_study(cells, name):
    """The cell of this name; a path may spell one that the config does not."""
    if name not in cells:
        refuse(
            f"{name} is no cell of this study; expected one that its config spells out."
        )
    return cells[name]


def stage1_run(wildcards):
    return of_study(STUDY.stage1_cells, wildcards.stage1).run


def cell_of(wildcards):
    return of_study(STUDY.cells, wildcards.cell)


def features_of(run):
    """The features that a run reads, split by split."""
    return FEATURES[run.encoder]


def trained_on(run):
    """The features that a run learns of, and those that it watches."""
    return [features_of(run)[split] for split in TRAINED_ON]


def captioned(wildcards, files):
    """The files, one a split, of what a cell captions."""
    return [files[split] for split in cell_of(wildcards).captioned]


def captioned_beside(wildcards, files):
    """The same of what its training has not read."""
    return [files[split] for split in cell_of(wildcards).captioned_beside]


def stage1_files(wildcards, name):
    """A file of the first stage that a cell starts from; an untrained projector has none."""
    cell = cell_of(wildcards)
    return [PATHS.stage1(cell.stage1_name) / name] if cell.has_stage1 else []


def checkpoint_captioned(wildcards):
    """The weights that a cell captions with."""
    return STUDY.checkpoint(cell_of(wildcards))


def captioners(phase):
    """Names of what a phase scores; which cells are reported is known once they are chosen."""
    choice = {}
    if phase == "report":
        try:
            found = read_choice(Path(checkpoints.select.get().output.selection))
        except Damaged as error:
            refuse(error if IS_DRY else made_anew(error))
        except StudyError as error:
            refuse(error)
        choice = STUDY.still_there(found)
    return STUDY.captioners(phase, choice)


def captions_scored(wildcards):
    """Captions that a scoring job scores; those of the human references are the clips' own."""
    names = captioners(wildcards.phase)
    return [PATHS.captions(name) for name in names if name != "references"]


def losses_scored(wildcards):
    """The losses beside them, of cells."""
    names = captioners(wildcards.phase)
    return [PATHS.run(name) / "losses.parquet" for name in names if name in STUDY.cells]


def told_by_cells(wildcards):
    """Captions, losses and scores of all cells: results too, and made again if they are gone."""
    names = STUDY.cells.keys() & {*captioners("tuning"), *captioners("report")}
    files = ("captions.json", "losses.parquet")
    told = [PATHS.run(name) / file for name in sorted(names) for file in files]
    return [*told, *map(PATHS.scores, PHASES)]


def trainings(wildcards):
    """What the trainings that are compared tell of themselves."""
    return STUDY.records([*captioners("tuning"), *captioners("report")])


def clips_scored(wildcards):
    """The clips of a scoring job, and those that were trained on."""
    return [CLIPS[split] for split in ("train", *STUDY.scored_splits(wildcards.phase))]


def frames_scored(wildcards):
    """The scorer's embeddings of a scoring job's clips."""
    return [SCORER_FEATURES[split] for split in STUDY.scored_splits(wildcards.phase)]
