# The study that the config spells out. Everything a rule knows about cells and paths it asks here.
import json
from pathlib import Path

from snakemake.exceptions import WorkflowError

from siglip_study.config import parse_config
from siglip_study.errors import StudyError
from siglip_study.grid import SPLITS, Study, cell_pattern
from siglip_study.provenance import rule_code

try:
    STUDY = Study(parse_config(config))
    STUDY.cells
except StudyError as error:
    raise WorkflowError(str(error)) from None

CONFIG = STUDY.config
PATHS = STUDY.paths
GPU = {
    "gpu": 1,
    "mem_mb": CONFIG.runtime.mem_mb,
    "runtime": CONFIG.runtime.runtime_minutes,
}
# A training job works on several GPUs; what it computes does not depend on how many.
TRAINING_GPUS = {**GPU, "gpu": CONFIG.runtime.gpus}
HOUSE = Path(str(workflow.current_basedir)).parent.parent
REPORT_FILES = [
    str(path) for path in sorted((HOUSE / "report").rglob("*")) if path.is_file()
]
FEATURES = {split: PATHS.features(STUDY.encoder_slug, split) for split in SPLITS}
SCORER_FEATURES = {
    split: PATHS.scorer_features(STUDY.scorer_slug, split)
    for split in ("selection", "report")
}
TRAINING_CODE = rule_code("training")


wildcard_constraints:
    cell=cell_pattern(STUDY.cells),
    stage1=cell_pattern(STUDY.stage1_cells),
    split="selection|report",


def stage1_run(wildcards):
    return STUDY.stage1_cells[wildcards.stage1].run


def cell_of(wildcards):
    return STUDY.cells[wildcards.cell]


def stage1_files(wildcards, name):
    """A file of the first stage that a cell starts from; an untrained projector has none."""
    cell = cell_of(wildcards)
    return [PATHS.stage1(cell.stage1_name) / name] if cell.has_stage1 else []


def chosen_cells():
    """The chosen tuning cells: known once they are scored."""
    path = checkpoints.select.get().output.selection
    with open(path, encoding="utf-8") as file:
        return [row["chosen"] for row in json.load(file)["projectors"].values()]


def captioners(split):
    """Everything that captions a split."""
    return STUDY.captioners(split, chosen_cells() if split == "report" else ())


def captions_of(names):
    return [PATHS.captions(name) for name in names]
