"""Export a trained run: what captions with it elsewhere, and a model card.

Run with::

    python -m siglip_study.report.export results/runs/linear_a7daac0c winner/

The folder captions as the run does, on any machine that has this package:
``python -m siglip_study.captioning winner/ clip.mp4``. ``VideoCaptioner`` loads, saves and pushes
it as transformers' models are. It is no class that ``AutoModel`` finds: that would be code which a
model brings along, and such code is never run here.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_dir, write_json
from siglip_study.base.jobs import exit_status
from siglip_study.captioning.exported import MODEL_FILES, fits, read_run
from siglip_study.data.summary import read_summary
from siglip_study.models.hub import is_folder, own_file
from siglip_study.report.page import config_yaml
from siglip_study.report.results import ROLES, read_answer
from siglip_study.report.words import FILTERS
from siglip_study.study.cells import RunSpec
from siglip_study.study.paths import Paths

_PARTS = {"vision": "encoder", "llm": "language model"}


def export_run(run: Path, out: Path, with_models: bool = True) -> None:
    """Write a trained run as a folder of its own.

    ``cell.json`` and ``checkpoint/`` (projector and LoRA as safetensors) are the run's;
    ``config.yaml`` is the whole config of its study, ``preprocessing.json`` what a clip becomes,
    ``README.md`` the model card. Encoder and language model are copied into ``models/`` where they
    are local folders; models of the hub are named with their commit.

    Args:
        run: ``runs/<cell>`` of a finished study.
        out: the folder to make.
        with_models: whether local folders are copied.

    Raises:
        StudyError: no such run, a damaged checkpoint, no report beside it, or ``out`` is there.
    """
    from siglip_study.features.images import load_transform
    from siglip_study.runs.run import check_checkpoint

    if out.exists():
        raise StudyError(f"{out}: is there already; expected a folder that is not there yet.")
    paths = Paths(run.absolute().parents[1])
    cell, spec = read_run(run)
    check_checkpoint(run / "checkpoint")
    told = read_answer(paths)
    seen = load_transform(spec.vision.model, spec.vision.revision, "vision.model")
    preprocessing = {
        "frames": spec.vision.frames,
        "frames_per_second": spec.vision.frames_per_second,
        "sampling": "uniform in time",
        "layer": spec.vision.layer,
        "prompt": spec.llm.prompt,
        "image": asdict(seen) | {"size": seen.size},
    }
    with atomic_dir(out) as folder:
        shutil.copy(run / "cell.json", folder)
        hidden = shutil.ignore_patterns(".*")  # Snakemake's own
        shutil.copytree(run / "checkpoint", folder / "checkpoint", ignore=hidden)
        (folder / "config.yaml").write_text(config_yaml(told["config"]), encoding="utf-8")
        write_json(folder / "preprocessing.json", preprocessing, "preprocessing/1")
        copied = []
        for part in _PARTS:
            model = getattr(spec, part).model
            if with_models and is_folder(model):
                _copy_model(Path(model), folder / "models" / part)
                copied.append(part)
        clips = read_summary(paths.manifest_summary).clips
        card = model_card(cell, spec, told, clips["train"], copied)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file() and fits(path.name, MODEL_FILES):
            shutil.copy(path, target)


# ---- The model card.


def model_card(
    cell: Mapping[str, Any],
    spec: RunSpec,
    told: Mapping[str, Any],
    train_clips: int,
    copied: list[str],
) -> str:
    """Markdown with a head that the hub reads.

    Args:
        cell: ``cell.json`` of the run.
        spec: what it holds of the run.
        told: ``report.json`` of the study.
        train_clips: that it was trained on.
        copied: of ``vision`` and ``llm``, those that lie beside the card.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    language = told["config"]["data"]["language"]
    head: dict[str, Any] = {"library_name": "siglip-study", "pipeline_tag": "video-text-to-text"}
    if language != "other":
        head["language"] = [language]
    named = [getattr(spec, part).model for part in _PARTS if part not in copied]
    if hub := [model for model in named if not is_folder(model)]:
        head["base_model"] = hub
    head["tags"] = ["video-captioning", "projector", "lora"]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "wording"),
        autoescape=True,  # Markdown lets HTML through
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template("model_card.md.j2").render(
        head=yaml.safe_dump(head, allow_unicode=True, sort_keys=False),
        cell=cell,
        role=ROLES[cell["role"]].en.lower(),
        spec=spec,
        told=told,
        train_clips=train_clips,
        parts=[_part(spec, part, part in copied) for part in _PARTS],
    )


def _part(spec: RunSpec, part: str, copied: bool) -> dict[str, str]:
    """A model of the run: its hub id or the last name of its folder, where it is, its licence."""
    model, revision = getattr(spec, part).model, getattr(spec, part).revision
    licence = card_licence(model, revision) or "not told by its folder"
    name = model
    place = f"hub, {f'commit `{revision}`' if revision else 'no commit pinned'}"
    if is_folder(model):
        name, place = Path(model).name, f"not in here: put that folder into `models/{part}`"
    else:
        licence += f"; https://huggingface.co/{model} has it"
    if copied:
        place = f"`models/{part}`"
    return {"name": _PARTS[part], "model": name, "place": place, "licence": licence}


def card_licence(model: str, revision: str | None) -> str | None:
    """``license`` in the head of a model's own README, if that is on this machine."""
    path = own_file(model, revision, "README.md")
    text = "" if path is None else path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return None
    try:
        head = yaml.safe_load(text.split("---\n")[1])
    except yaml.YAMLError:
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return None if licence is None else " ".join(str(licence).split())


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m siglip_study.report.export``; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.report.export")
    parser.add_argument("run", type=Path, help="runs/<cell> of a finished study's results")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument(
        "--without-models", action="store_true", help="leave local models out, however small"
    )
    given = parser.parse_args(arguments)
    return exit_status(lambda: export_run(given.run, given.out, not given.without_models))


if __name__ == "__main__":
    raise SystemExit(main())
