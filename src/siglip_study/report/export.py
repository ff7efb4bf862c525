"""Export a trained run: what captions with it elsewhere, and a model card.

Run with::

    python -m siglip_study.report.export results/runs/linear_a7daac0c winner/

The folder captions as the run does, on any machine that has this package:
``python -m siglip_study.captioning winner/ clip.mp4``. ``hf upload NAME winner/`` shares it. It is
no class that ``AutoModel`` finds: that would be code which a model brings along, and such code is
never run here.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_dir, read_json, write_json
from siglip_study.base.jobs import exit_status
from siglip_study.data.summary import read_summary
from siglip_study.models.hub import is_folder, own_file
from siglip_study.report.page import SCHEMA, config_yaml
from siglip_study.report.results import ROLES
from siglip_study.report.words import rank_interval, significant, size, span, whole_percent
from siglip_study.study.cells import RunSpec
from siglip_study.study.paths import Paths

#: What of a model's folder is copied: never a pickle, never code.
_COPIED = (".json", ".jinja", ".md", ".model", ".safetensors", ".txt")
_LICENCES = ("LICENSE", "LICENCE", "NOTICE")
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
    cell = read_json(run / "cell.json", "cell/1")
    check_checkpoint(run / "checkpoint")
    told = read_json(paths.report_answer, SCHEMA)
    if "config" not in told:
        raise StudyError(
            f"{paths.report_answer}: without the study's config, as older versions wrote it; "
            "expected one of today: run the study's command again, which trains nothing."
        )
    spec = RunSpec.model_validate(cell["run"])
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
        wanted = path.suffix in _COPIED or path.name.startswith(_LICENCES)
        if wanted and path.is_file():
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
    language = told["config"]["data"]["language"]
    head: dict[str, Any] = {"library_name": "siglip-study", "pipeline_tag": "video-text-to-text"}
    if language != "other":
        head["language"] = [language]
    named = [getattr(spec, part).model for part in _PARTS if part not in copied]
    if hub := [model for model in named if not is_folder(model)]:
        head["base_model"] = hub
    head["tags"] = ["video-captioning", "projector", "lora"]
    front = yaml.safe_dump(head, allow_unicode=True, sort_keys=False)
    parts = [
        f"---\n{front}---",
        f"# {cell['cell']}: captions of videos",
        f"The projector `{spec.projector}` ({size(cell['projector_parameters'])} parameters) "
        f"between a frozen encoder and a frozen language model with LoRA adapters "
        f"({size(cell['lora_parameters'])} parameters). It was trained on {train_clips} captioned "
        f"clips, seed {cell['seed']}, and is one run of a study that compared projectors: "
        f"{ROLES[cell['role']].en.lower()}.",
        "## Use",
        f"With siglip-study {cell['versions']['siglip-study']} (commit `{cell['git_commit']}`) "
        "installed:",
        "```python\n"
        "from siglip_study.captioning import VideoCaptioner\n\n"
        'captioner = VideoCaptioner("path/of/this/folder")\n'
        'for caption in captioner(["clip.mp4"]):\n'
        "    print(caption.text)\n"
        "```",
        "```bash\npython -m siglip_study.captioning path/of/this/folder clip.mp4 folder/\n```",
        "\n".join(_parts_table(spec, copied)),
        f"It reads {spec.vision.frames} frames of a clip, uniform in time, and is asked "
        f"“{spec.llm.prompt}”. A clip becomes {cell['tokens_per_video']} tokens. What is done to a "
        "frame stands in `preprocessing.json`, every key of the study in `config.yaml`.",
        "## How sure",
        f"{told['context']['en']}.",
        f"**{told['headline']['en']}** {told['headline']['ko']}",
        "\n".join(f"- {line['en']}" for line in told["advice"]),
        "\n".join(_ranking_table(told)),
        "M is the grounding margin in standard deviations: how much better a caption fits its own "
        "clip than other clips, by the scorer. Intervals carry clips and seeds; ranks are no "
        "tighter than what they prove.",
        "\n".join(
            f"- {'Holds' if check['good'] else 'Mind'}: {check['text']['en']}"
            for check in told["checks"]
        ),
        "## Limits",
        "It is shown to work on clips like those of its study, and on no others. It says what such "
        "captions say: it may name what is not there. No caption of it should decide about people.",
        "## Licences",
        "\n".join(_licences(spec, copied)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parts_table(spec: RunSpec, copied: list[str]) -> Iterator[str]:
    yield "| part | model | where |\n| --- | --- | --- |"
    for part, name in _PARTS.items():
        model, revision = getattr(spec, part).model, getattr(spec, part).revision
        place = f"hub, {f'commit `{revision}`' if revision else 'no commit pinned'}"
        if part in copied:
            place = f"`models/{part}`"
        elif is_folder(model):
            place = f"not in here: put that folder into `models/{part}`"
        yield f"| {name} | `{_model_name(model)}` | {place} |"


def _model_name(model: str) -> str:
    """Its hub id, or the last name of its folder."""
    return Path(model).name if is_folder(model) else model


def _ranking_table(told: Mapping[str, Any]) -> Iterator[str]:
    yield "| projector | rank | M | of the human captions' | distinct captions | tokens |"
    yield "| --- | --- | --- | --- | --- | --- |"
    can_rank = told["answer"]["refusal"] is None
    for line in told["lines"]:
        rank = rank_interval(line["rank_low"], line["rank_high"], line["ranked"], can_rank).en
        margin = f"{significant(line['margin'])} {span(line['low'], line['high'])}"
        shares = (whole_percent(line[key]) for key in ("of_human", "distinct"))
        figures = (line["projector"], rank, margin, *shares, line["tokens"])
        yield "| " + " | ".join(map(str, figures)) + " |"


def _licences(spec: RunSpec, copied: list[str]) -> Iterator[str]:
    """What the models' own folders say, or that they say nothing."""
    for part, name in _PARTS.items():
        model, revision = getattr(spec, part).model, getattr(spec, part).revision
        found = card_licence(model, revision) or "not told by its folder"
        if not is_folder(model):
            found += f"; https://huggingface.co/{model} has it"
        yield f"- {name} `{_model_name(model)}`: {found}"
    yield "- projector and adapters: for whoever trained them to say; they come of both models"
    yield "- clips and captions of the training: not in here, and under terms of their own"


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
