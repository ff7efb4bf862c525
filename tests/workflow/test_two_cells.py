"""A small study from clips to report, run once; then what a second run would do.

Takes two to four minutes on two cores: four trainings of three optimizer steps, and the imports of
some twenty jobs.
"""

import base64
import gzip
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
from support.pages import arguments, documented

from siglip_study.captioning import __main__ as captioning
from siglip_study.config import load
from siglip_study.config.study import RuntimeConfig
from siglip_study.planning import look, power
from siglip_study.planning.explain import STEPS, Due
from siglip_study.report import beside, compare, export

BROKEN = {
    # id → file and bytes; the truncated clip and the broken label are made from real ones.
    "broken_empty": b"",
    "broken_text": "이것은 영상이 아닙니다.\n".encode(),
}


#: A name of some 120 characters with all that HTML, shells, globs and formats might read as theirs.
HOSTILE = "{split}<img src=x onerror=alert(1)>&\"'`$(touch x);{{id}}%s*?[가] ".ljust(120, "_")
#: What a caption may hold, too.
HOSTILE_WORDS = "</script><script>alert(1)</script>\0 {{ config }} \u202e"


def disguise(clips: Path) -> None:
    """Give one clip of every split a hostile name, and its caption hostile words."""
    for split in ("train", "selection", "report"):
        video = max((clips / split / "videos").glob("*.mp4"))
        label = clips / split / "labels" / f"{video.stem}.json"
        name = HOSTILE.format(split=split)
        told = json.loads(label.read_text("utf-8"))
        told["info"]["filename"] = f"{name}.mp4"
        told["annotation"]["description_kr"] += HOSTILE_WORDS
        label.unlink()
        label.with_name(f"{name}.json").write_text(json.dumps(told), "utf-8")
        video.rename(video.with_name(f"{name}.mp4"))


def spoil(clips: Path) -> None:
    """Put three files that are no videos and one label that is no JSON among the training clips."""
    videos, labels = clips / "train/videos", clips / "train/labels"
    video = min(videos.glob("*.mp4"))
    label = (labels / f"{video.stem}.json").read_bytes()
    whole = video.read_bytes()
    for name, data in {**BROKEN, "broken_cut": whole[: len(whole) // 2]}.items():
        (videos / f"{name}.mp4").write_bytes(data)
        (labels / f"{name}.json").write_bytes(label)
    (videos / "broken_label.mp4").write_bytes(whole)
    (labels / "broken_label.json").write_bytes(label[: len(label) // 2])


def own_clips(root: Path | str) -> dict[str, Any]:
    """Keys of a study of clips in ``root``."""
    return {"demo": None, "data": {"root": str(root)}}


@pytest.fixture(scope="module")
def study(new_house: Callable[[], Any]) -> Any:
    """A house in which the small study has run, with its config and what the run printed.

    Its clips are those of a demo, and lie in ``data/mine`` as a user's own.
    """
    house = new_house()
    demo = house.write_config("demo.yaml")
    made = house.snakemake("results/demo/files.json", config=demo)
    assert made.status == 0, made.text
    house.clips = house.folder / "data/mine"
    house.clips.parent.mkdir()
    (house.folder / "results/demo").rename(house.clips)
    (house.clips / "files.json").unlink()
    disguise(house.clips)
    spoil(house.clips)
    house.config = house.write_config("mine.yaml", **own_clips("data/mine"))
    house.run = house.snakemake(config=house.config)
    assert house.run.status == 0, house.run.text[-6000:]
    return house


def test_it_ends_with_a_report(study: Any) -> None:
    page = (study.folder / "results/report.html").read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    for projector in ("linear", "query_abstractor"):
        assert projector in page
    packed = re.search(r'id="packed-clips">([^<]*)<', page)
    assert packed is not None
    ids = [clip[0] for clip in json.loads(gzip.decompress(base64.b64decode(packed[1])))["clips"]]
    assert HOSTILE.format(split="report") in ids and len(ids) == 12
    assert "<img src=x" not in page and "<script>alert" not in page
    # A run of one seed must not claim an order.
    ranking = json.loads((study.folder / "results/tables/ranking.json").read_text("utf-8"))
    assert ranking["answer"]["refusal"]["code"] == "one_seed"


@pytest.mark.browser
def test_its_page_shows_a_hostile_clip_as_text_and_asks_nobody(browser: Any, study: Any) -> None:
    name = HOSTILE.format(split="report")
    for size in ((1366, 768), (360, 740)):
        page = study.folder / "results/report.html"
        tab = browser.open(page, "#clip=" + quote(name), size=size)
        tab.wait("document.getElementById('clips-list').dataset.ready")
        assert tab.run("document.querySelector('.clip h3').textContent") == name
        assert "alert(1)" in tab.run("document.querySelector('.clip .reference').textContent")
        assert tab.console == [] == tab.requests
        assert tab.run("document.documentElement.scrollWidth") <= size[0]
        tab.close()


def test_every_runtime_key_was_tried_but_gpus_and_trackers(study: Any) -> None:
    runtime, default = load(study.config).runtime, RuntimeConfig()
    same = {
        key for key in RuntimeConfig.model_fields if getattr(runtime, key) == getattr(default, key)
    }
    assert same == {"gpus", "trackers"}  # tests/training/test_distributed.py, test_trackers.py
    # 24 training clips, 7 a shard.
    assert len(list(study.folder.glob("results/features/vision-*/train/*.safetensors"))) == 4


def test_the_console_has_a_line_a_job_and_epoch_and_the_results(study: Any) -> None:
    lines = [line for line in study.run.text.splitlines() if line]
    for name in (path.parent.name for path in (study.folder / "results/runs").glob("*/cell.json")):
        first, second = (line for line in lines if name in line and "stage 2" in line)
        assert first == f"stage 2 of {name}: projector and LoRA"
        assert re.fullmatch(
            rf"{name} · stage 2 · epoch 1/1 · loss [\d.]+ · validation [\d.]+ · \d+ s · "
            r"cell [1-4] of 4(, about \d+ min to go)?",
            second,
        )
    told = (
        "Usable clips: 24 train, 12 selection, 12 report; ",
        "The scorer tells human captions of their own clip from those of others:",
        "No order can be claimed: there is one run each",
    )
    for sentence in told:
        assert any(line.startswith(sentence) for line in lines), sentence
    assert lines[-1] == "The report: results/report.html"
    # What Snakemake's own console adds to each job.
    for chatter in ("Reason:", "Select jobs", "Finished jobid", "Job stats", "steps ("):
        assert chatter not in study.run.text
    assert len(lines) < 48, study.run.text


def test_every_cell_was_trained_once_and_left_its_record(study: Any) -> None:
    runs = study.folder / "results/runs"
    records = [json.loads(path.read_text("utf-8")) for path in sorted(runs.glob("*/cell.json"))]
    assert sorted((r["projector"], r["role"], r["seed"]) for r in records) == [
        ("linear", "report", 1),
        ("linear", "tuning", 0),
        ("query_abstractor", "report", 1),
        ("query_abstractor", "tuning", 0),
    ]
    # 24 clips in batches of 8, one epoch: the broken ones are not among them.
    assert {(r["optimizer_steps"], r["samples_seen"]) for r in records} == {(3, 24)}


def test_held_out_captions_are_of_the_split_of_the_role(study: Any) -> None:
    manifest = pl.read_parquet(study.folder / "results/data/manifest.parquet")
    for record in (study.folder / "results/runs").glob("*/cell.json"):
        role = json.loads(record.read_text("utf-8"))["role"]
        split = "selection" if role == "tuning" else "report"
        records = json.loads((record.parent / "captions.json").read_text("utf-8"))["records"]
        # Beside them: what the model says of nothing and of the mean video.
        captions = [caption for caption in records if caption["condition"] == "matched"]
        expected = manifest.filter(pl.col("split") == split)["id"].sort().to_list()
        assert sorted(caption["id"] for caption in captions) == expected
        assert len(expected) == 12


@pytest.fixture
def captioned(study: Any, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A run, and what it said of ``clip.mp4`` and those in ``folder`` that lie below ``tmp_path``.

    They are held-out clips of the study, elsewhere; one that is broken lies among them.
    """
    run = next((study.folder / "results/runs").glob("linear_*"))
    records = json.loads((run / "captions.json").read_text("utf-8"))["records"]
    captions = {r["id"]: r["caption"] for r in records if r["condition"] == "matched"}
    rows = pl.read_parquet(study.folder / "results/data/manifest.parquet")
    rows = rows.filter(pl.col("id").is_in(list(captions))).select("id", "path").tail(4)
    places, paths = ["clip.mp4", *(f"folder/{i}.mp4" for i in range(3))], rows["path"]
    (tmp_path / "folder").mkdir()
    for place, path in zip(places, paths, strict=True):
        shutil.copy(study.clips / path, tmp_path / place)
    (tmp_path / "folder/broken.mp4").write_bytes(b"no video")
    return run, dict(zip(places, map(captions.get, rows["id"]), strict=True))


def test_an_exported_run_captions_elsewhere_as_the_study_did(
    study: Any, tmp_path: Path, captioned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, captions = captioned
    monkeypatch.chdir(study.folder)
    winner = tmp_path / "winner"
    line = documented(
        ".venv/bin/python -m siglip_study.report.export results/runs/linear_a7daac0c winner/",
        {"results/runs/linear_a7daac0c": run, "winner/": winner},
    )
    assert export.main(arguments(line)) == 0
    assert load(winner / "config.yaml").projectors == load(study.config).projectors
    # There, no path of the study's config leads anywhere.
    (tmp_path / ".venv").symlink_to(sys.prefix)
    line = documented(".venv/bin/python -m siglip_study.captioning winner/ clip.mp4")
    done = study.shell(line, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["caption"] == captions["clip.mp4"]


def test_a_run_captions_files_and_folders_and_names_what_is_broken(
    study: Any, tmp_path: Path, captioned: Any, monkeypatch: Any, capsys: Any
) -> None:
    run, captions = captioned
    monkeypatch.chdir(study.folder)
    of_study = documented(
        ".venv/bin/python -m siglip_study.captioning results/runs/linear_a7daac0c clip.mp4 folder/"
        " > captions.jsonl",
        {
            "results/runs/linear_a7daac0c": run,
            "clip.mp4": tmp_path / "clip.mp4",
            "folder/": tmp_path / "folder",
        },
    )
    of_tutorial = documented(
        ".venv/bin/python -m siglip_study.captioning results/laptop/runs/linear_199c0350"
        " data/mine/clips/",
        {"results/laptop/runs/linear_199c0350": run, "data/mine/clips/": tmp_path},
    )
    for line in (of_study, of_tutorial):
        assert captioning.main([*arguments(line), "--device", "cpu"]) == 1
        rows = map(json.loads, capsys.readouterr().out.splitlines())
        told = {str(Path(row["clip"]).relative_to(tmp_path)): row for row in rows}
        broken = told.pop("folder/broken.mp4")
        assert broken["caption"] is None and broken["error"]
        assert {clip: row["caption"] for clip, row in told.items()} == captions


def test_a_study_is_looked_at_and_asked_what_it_could_tell(
    study: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.folder)
    line = documented(".venv/bin/python -m siglip_study.planning.look config/mine.yaml")
    assert look.main(arguments(line)) == 0
    assert "train: 24 clips" in capsys.readouterr().out
    line = documented(".venv/bin/python -m siglip_study.planning.power config/mine.yaml")
    assert power.main(arguments(line)) == 0
    assert "2 projectors" in capsys.readouterr().out


def test_two_studies_are_compared_in_both_languages(
    study: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.folder)
    both = {"results/a": "results", "results/b": "results"}
    for line in (
        documented(".venv/bin/python -m siglip_study.report.compare results/a results/b", both),
        documented(
            ".venv/bin/python -m siglip_study.report.compare results/a results/b > comparison.md",
            both,
        ),
        documented(
            ".venv/bin/python -m siglip_study.report.compare results/a results/b --language ko",
            both,
        ),
    ):
        assert compare.main(arguments(line)) == 0
        assert capsys.readouterr().out.count("linear") > 1


def test_a_notebook_s_figures_stand_beside_the_study(
    study: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(study.folder)
    made = {
        "final_metrics.json": '{"meteor": 0.06, "final": {"diversity": 0.11}}',
        "training_log.csv": "epoch,distinct_ratio\n1,0.25\n",
    }
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    line = documented(
        ".venv/bin/python -m siglip_study.report.beside results final_metrics.json"
        " training_log.csv --as distinct_ratio=final.diversity > beside.md",
        {name: tmp_path / name for name in made},
    )
    assert beside.main(arguments(line)) == 0
    out = capsys.readouterr().out
    assert all(told in out for told in ("0.0600", "0.110", "0.250", "query_abstractor"))


def test_the_names_of_the_runs_stand_in_the_first_columns_of_a_table(study: Any) -> None:
    line = documented("cut -d, -f1-4 results/laptop/tables/runs.csv", {"results/laptop": "results"})
    table = study.shell(line).stdout
    head, *rows = (row.split(",") for row in table.splitlines())
    assert head == ["projector", "cell", "seed", "gate"] and len(rows) == 2
    assert all((study.folder / "results/runs" / cell).is_dir() for _, cell, *_ in rows)


def test_broken_files_are_rejected_by_name_and_reason(study: Any) -> None:
    rejected = pl.read_parquet(study.folder / "results/data/rejected.parquet")
    reasons = dict(rejected.select("id", "reason").iter_rows())
    assert set(reasons) == {*BROKEN, "broken_cut", "broken_label"}
    assert all(reasons.values()) and reasons["broken_label"].startswith("broken label")
    manifest = pl.read_parquet(study.folder / "results/data/manifest.parquet")
    assert not set(manifest["id"]) & set(reasons)
    assert manifest.filter(pl.col("split") == "train").height == 24
    page = (study.folder / "results/report.html").read_text("utf-8")
    assert all(name in page for name in reasons)


def test_no_half_file_and_no_resume_state_is_left(study: Any) -> None:
    results = study.folder / "results"
    hidden = [p for p in results.rglob(".*") if p.is_file() and ".resume" not in p.parts]
    assert not [p for p in hidden if ".snakemake" not in p.name and p.suffix != ".sha256"]
    states = [p for p in (results / ".resume").rglob("*.safetensors") if p.is_file()]
    assert not states


@pytest.mark.parametrize(
    "line",
    [
        documented(
            ".venv/bin/snakemake --cores all --resources gpu=1 --configfile config/mine.yaml"
        ),
        documented(
            ".venv/bin/snakemake --workflow-profile profiles/slurm --configfile config/mine.yaml"
            " --set-resources stage2:runtime=1440"
        ),
    ],
)
def test_a_second_run_starts_no_job_wherever_it_would_run_them(study: Any, line: str) -> None:
    before = (study.folder / "results/report.html").stat().st_mtime_ns
    again = study.shell(line)
    assert again.returncode == 0 and "Nothing to be done" in again.stderr, again.stderr
    assert (study.folder / "results/report.html").stat().st_mtime_ns == before


def test_the_results_in_a_fresh_checkout_and_the_clips_elsewhere_run_nothing(
    study: Any, new_house: Any
) -> None:
    house = new_house()
    for path in house.folder.rglob("*"):
        os.utime(path)  # as git leaves them: newer than the results
    shutil.rmtree(house.folder / "results", ignore_errors=True)
    shutil.copytree(study.folder / "results", house.folder / "results")
    shutil.copytree(study.clips, house.folder / "elsewhere")
    house.write_config("mine.yaml", **own_clips(house.folder / "elsewhere"))
    line = documented(".venv/bin/python -m siglip_study.planning.explain config/mine.yaml")
    assert house.shell(line).stdout.startswith("Nothing would run"), house.shell(line).stderr


@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync on the PATH")
def test_a_study_moved_to_another_machine_runs_nothing(study: Any, tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir(), other.mkdir()
    (here / "siglip-study").symlink_to(study.folder)
    # rsync starts itself there through a program that takes the machine's name and a command.
    remote = tmp_path / "remote"
    remote.write_text(f'#!/bin/sh\n[ "$1" = other ] && shift && cd {other} && exec "$@"\n')
    remote.chmod(0o755)
    line = documented("rsync -a siglip-study/ other:siglip-study/")
    moved = study.shell(line, folder=here, RSYNC_RSH=str(remote))
    assert moved.returncode == 0, moved.stderr
    line = documented(".venv/bin/snakemake --cores all --configfile config/mine.yaml")
    there = study.shell(line, folder=other / "siglip-study")
    assert there.returncode == 0 and "Nothing to be done" in there.stderr, there.stderr


def test_a_comment_in_the_config_reruns_nothing(study: Any) -> None:
    text = study.config.read_text("utf-8")
    config = study.config.with_name("comment.yaml")
    config.write_text("# a remark\n" + text, encoding="utf-8")
    line = documented(
        ".venv/bin/snakemake --cores 16 --resources gpu=4 --configfile config/mine.yaml",
        {"config/mine.yaml": config},
    )
    assert study.planned(line).jobs == {}


# ---- What one change runs again: the table of docs/what-runs-again.md, row by row.

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
TABLE = (ROOT / "docs/what-runs-again.md").read_text("utf-8").split("<!-- causes: ")[1]
ROWS = {
    cells[0]: tuple(cells[1:])
    for line in TABLE.splitlines()[3:]
    if (cells := [cell.strip() for cell in line.strip("| ").split(" | ")])[1:]
}
#: keys of the config, and the library's folder where its code changed
Changed = tuple[dict[str, Any], Path | None]
Change = Callable[[Any, Path], Changed]


def data(edit: Callable[[Path], None], **keys: Any) -> Change:
    """A copy of the clips, edited."""

    def change(study: Any, folder: Path) -> Changed:
        shutil.copytree(study.clips, folder / "copy")
        edit(folder / "copy")
        return {**own_clips(folder / "copy"), **keys}, None

    return change


def code(edit: Callable[[Path], None]) -> Change:
    """The library, edited."""

    def change(study: Any, folder: Path) -> Changed:
        library = folder / "library"
        shutil.copytree(SOURCE, library, ignore=shutil.ignore_patterns("__pycache__"))
        edit(library)
        return own_clips(study.clips), library

    return change


def scripts_anew(study: Any, folder: Path) -> Changed:
    """Every script of the rules, newer than what it made, and of another text."""
    for script in (study.folder / "workflow/scripts").glob("*.py"):
        script.write_text(script.read_text("utf-8") + "# checked out\n", "utf-8")
    return own_clips(study.clips), None


def config(**keys: Any) -> Change:
    return lambda study, folder: ({**own_clips(study.clips), **keys}, None)


def no_change(clips: Path) -> None:
    """A copy elsewhere is change enough."""


def stray(clips: Path) -> None:
    (clips / "notes.txt").write_text("note")
    (clips / "train/videos/.cache").mkdir()
    (clips / "train/videos/.cache/x.mp4").write_bytes(b"x")


def other_times(clips: Path) -> None:
    for path in clips.rglob("*"):
        os.utime(path, (1, 1))


def results_inside(clips: Path) -> None:
    (clips / "results/demo/train").mkdir(parents=True)
    shutil.copy(min(clips.glob("train/videos/*")), clips / "results/demo/train")


def one_more(split: str) -> Callable[[Path], None]:
    def add(clips: Path) -> None:
        for kind in ("videos", "labels"):
            file = min((clips / split / kind).glob("[!b]*"))
            shutil.copy(file, file.with_stem("added"))

    return add


def add_projector(library: Path) -> None:
    folder = library / "siglip_study/projectors"
    text = (folder / "linear.py").read_text("utf-8")
    (folder / "another.py").write_text(text.replace('"linear"', '"another"'), "utf-8")


def add_metric(library: Path) -> None:
    guide = (ROOT / "docs/add-a-metric.md").read_text("utf-8")
    block = re.search(r"^```python\n(.*?)^```$", guide, re.M | re.S)
    assert block is not None
    (library / "siglip_study/metrics/length.py").write_text(block[1], "utf-8")


def reword_errors(library: Path) -> None:
    for path in library.rglob("*.py"):
        path.write_text(path.read_text("utf-8").replace("; expected", "; we expected"), "utf-8")


def rename_module(library: Path) -> None:
    (library / "siglip_study/models/vlm.py").rename(library / "siglip_study/models/joined.py")
    for path in library.rglob("*.py"):
        path.write_text(path.read_text("utf-8").replace("models.vlm", "models.joined"), "utf-8")


def change_projector(library: Path) -> None:
    path = library / "siglip_study/projectors/linear.py"
    path.write_text(path.read_text("utf-8") + "\nADDED = 1\n", "utf-8")


def raise_training_version(library: Path) -> None:
    path = library / "siglip_study/training/__init__.py"
    text, raised = re.subn(r"^VERSION = \d+", "VERSION = 999", path.read_text("utf-8"), flags=re.M)
    assert raised == 1
    path.write_text(text, "utf-8")


ONE_RATE = {"learning_rate": [5e-4], "epochs": [1]}
RATES = {"learning_rate": [5e-4, 2e-3], "epochs": [1]}
CHANGES: dict[str, Change] = {
    "a file that is nobody's, among the data": data(stray),
    "the data moved": data(no_change),
    "the data copied, with other times": data(other_times),
    "results inside the data's folder": data(results_inside),
    "a new projector's file": code(add_projector),
    "an error reworded": code(reword_errors),
    "a module renamed": code(rename_module),
    "the rules' scripts checked out anew": scripts_anew,
    "a new metric": code(add_metric),
    "a projector's code": code(change_projector),
    "the version of training": code(raise_training_version),
    "a clip more in report": data(one_more("report")),
    "a clip more in selection": data(one_more("selection")),
    "a clip more in train": data(one_more("train")),
    "a learning rate more": config(grid=RATES),
    "a rank of the adapters more": config(grid={**ONE_RATE, "llm.lora.r": [4, 8]}),
    "a layer of the encoder more": config(grid={**ONE_RATE, "vision.layer": [-2, -1]}),
    "a report seed more": config(seeds={"tuning": 0, "report": [1, 2]}),
    "a clip more in report, and a learning rate more": data(one_more("report"), grid=RATES),
    "the page's title": config(report={"title": "다른 제목", "gallery_clips": 4}),
}


def told(study: Any, steps: list[Due]) -> tuple[str, str, str]:
    """The last columns of the table: cells trained and captioned, and what runs besides."""
    records = (study.folder / "results/runs").glob("*/cell.json")
    roles = {path.parent.name: json.loads(path.read_text("utf-8"))["role"] for path in records}
    kinds = {
        "none": set(),
        "of the report": {name for name, role in roles.items() if role == "report"},
        # Those of the report come on top once cells are chosen.
        "all": {name for name, role in roles.items() if role == "tuning"},
    }
    kinds["its own"] = {name for name in kinds["all"] if name.startswith("linear")}

    def kind(rule: str) -> str:
        cells = {step.of for step in steps if step.rule == rule}
        found = [name for name, own in kinds.items() if own == cells]
        return found[0] if found else "the new" if not cells & set(roles) else str(cells)

    besides: dict[str, list[str]] = {}
    for step in steps:
        if step.rule not in ("stage1", "stage2", "captions"):
            besides.setdefault(STEPS[step.rule], []).extend([step.of] if step.of else [])
    listed = (f"{name} ({', '.join(of)})" if of else name for name, of in besides.items())
    return kind("stage2"), kind("captions"), ", ".join(listed) or "nothing"


def test_the_table_has_a_row_a_change() -> None:
    assert list(ROWS) == list(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_runs_what_depends_on_it(study: Any, tmp_path: Path, name: str) -> None:
    keys, library = CHANGES[name](study, tmp_path)
    steps = study.due(study.write_config("changed.yaml", **keys), library)
    assert told(study, steps) == ROWS[name]


def reported_runs(study: Any) -> list[Path]:
    records = sorted((study.folder / "results/runs").glob("*/cell.json"))
    return [r.parent for r in records if json.loads(r.read_text("utf-8"))["role"] == "report"]


@contextmanager
def gone(file: Path) -> Iterator[None]:
    """A result that is not where it was."""
    elsewhere = file.with_name(f".{file.name}.elsewhere")
    file.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(file)


@pytest.mark.parametrize(
    ("result", "due"),
    {
        "runs/linear_*/captions.json": {"captions", "score", "tables", "report"},
        "runs/linear_*/losses.parquet": {"captions", "score", "tables", "report"},
        "tables/scores.report.json": {"score", "tables", "report"},
        "tables/cells.csv": {"tables", "report"},
        "figures": {"report"},
        "report.html": {"report"},
    }.items(),
)
def test_a_result_that_is_gone_is_due_again(study: Any, result: str, due: set[str]) -> None:
    """Of the cell that is reported; nothing is trained."""
    found = (study.folder / "results").glob(result)
    runs = reported_runs(study)
    with gone(next(path for path in found if "runs" not in result or path.parent in runs)):
        assert {step.rule for step in study.due(study.config)} == due


def test_a_record_that_is_gone_is_due_again_where_tables_are(study: Any) -> None:
    """Whoever takes both is told the whole price; the record alone is asked for by nothing."""
    record = reported_runs(study)[0] / "cell.json"
    with gone(record):
        assert study.due(study.config) == []
        with gone(study.folder / "results/tables/cells.csv"):
            due = study.due(study.config)
    assert {step.of for step in due if step.rule == "stage2"} == {record.parent.name}
    assert {"captions", "score", "tables", "report"} <= {step.rule for step in due}


@pytest.mark.parametrize(
    "content", ["{", '{"schema": "selection/3", "projectors": {"linear": {}}}']
)
def test_a_damaged_choice_is_told_and_due_again_also_without_its_digest(
    study: Any, tmp_path: Path, content: str
) -> None:
    """It is read while Snakemake plans; an older study has no digest, nor one without dotfiles."""
    choice = study.folder / "results/tables/selection.json"
    digest = choice.with_name(".selection.json.sha256")
    kept, about = {path: path.read_bytes() for path in (choice, digest)}, choice.stat()
    digest.unlink()
    choice.write_text(content, "utf-8")
    os.utime(choice, ns=(about.st_atime_ns, about.st_mtime_ns))
    try:
        run = study.snakemake(config=study.config)
        assert run.status != 0 and "Traceback" not in run.text
        assert "the same command makes it anew" in run.text.splitlines()[-1]
        assert "select" in {step.rule for step in study.due(study.config)}
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
        os.utime(choice, ns=(about.st_atime_ns, about.st_mtime_ns))
        choice.with_name(".selection.json.damaged").unlink(missing_ok=True)


def test_what_is_explained_is_what_snakemake_would_run(study: Any, tmp_path: Path) -> None:
    keys, _ = CHANGES["a clip more in report, and a learning rate more"](study, tmp_path)
    config = study.write_config("changed.yaml", **keys)
    plan = study.planned(
        documented(
            ".venv/bin/snakemake --workflow-profile profiles/slurm --configfile config/mine.yaml",
            {"config/mine.yaml": config},
        )
    )
    due = study.due(config)
    assert Counter(step.rule for step in due) == {k: n for k, n in plan.jobs.items() if k != "all"}
    assert {step.of for step in due if step.rule == "stage2"} == plan.cells("stage 2")
    (why,) = {step.why for step in due if step.rule == "clips"}
    assert why == ("clips or labels of report changed, or how they are checked",)
