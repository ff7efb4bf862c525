"""A small study from clips to report, run once; then what a second run would do.

Takes two to four minutes on two cores: four trainings of three optimizer steps, and the imports of
some twenty jobs.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siglip_study.config import load
from siglip_study.config.study import RuntimeConfig

BROKEN = {
    # id → file and bytes; the truncated clip and the broken label are made from real ones.
    "broken_empty": b"",
    "broken_text": "이것은 영상이 아닙니다.\n".encode(),
}


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


def own_clips(root: Path) -> dict[str, Any]:
    """Keys of a study of clips in ``root``."""
    return {"demo": None, "data": {"root": str(root)}}


@pytest.fixture(scope="module")
def study(new_house: Callable[[], Any]) -> Any:
    """A house in which the small study has run, with its config and what the run printed.

    Its clips are those of a demo, and lie in ``clips`` as a user's own.
    """
    house = new_house()
    demo = house.write_config("demo.yaml")
    made = house.snakemake("results/demo/files.json", config=demo)
    assert made.status == 0, made.text
    house.clips = house.folder / "clips"
    (house.folder / "results/demo").rename(house.clips)
    (house.clips / "files.json").unlink()
    spoil(house.clips)
    house.config = house.write_config("two_cells.yaml", **own_clips(house.clips))
    house.run = house.snakemake(config=house.config)
    assert house.run.status == 0, house.run.text[-6000:]
    return house


def test_it_ends_with_a_report(study: Any) -> None:
    page = (study.folder / "results/report.html").read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    for projector in ("linear", "query_abstractor"):
        assert projector in page
    # A run of one seed must not claim an order.
    ranking = json.loads((study.folder / "results/tables/ranking.json").read_text("utf-8"))
    assert ranking["answer"]["refusal"]["code"] == "one_seed"


def test_every_runtime_key_was_tried_but_the_number_of_gpus(study: Any) -> None:
    runtime, default = load(study.config).runtime, RuntimeConfig()
    same = {
        key for key in RuntimeConfig.model_fields if getattr(runtime, key) == getattr(default, key)
    }
    assert same == {"gpus"}  # tests/training/test_distributed.py
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
    assert len(lines) < 45, study.run.text


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
    assert not [p for p in hidden if ".snakemake" not in p.name]
    states = [p for p in (results / ".resume").rglob("*.safetensors") if p.is_file()]
    assert not states


def test_a_second_run_starts_no_job(study: Any) -> None:
    before = (study.folder / "results/report.html").stat().st_mtime_ns
    again = study.snakemake(config=study.config)
    assert again.status == 0 and again.jobs == {}
    assert (study.folder / "results/report.html").stat().st_mtime_ns == before


def test_one_more_learning_rate_runs_only_the_new_cells(study: Any) -> None:
    done = {path.parent.name for path in (study.folder / "results/runs").glob("*/cell.json")}
    grid = {"learning_rate": [5e-4, 2e-3], "epochs": [1]}
    plan = study.snakemake(
        "--dry-run", config=study.write_config("more.yaml", grid=grid, **own_clips(study.clips))
    )
    assert plan.status == 0, plan.text
    jobs = plan.jobs
    assert (jobs["stage2"], jobs["captions"]) == (2, 2)
    assert not {"demo", "clips", "vision_features", "scorer_features", "stage1"} & set(jobs)
    assert len(plan.cells("stage 2")) == 2 and not plan.cells("stage 2") & done


def test_one_more_report_seed_runs_only_the_new_cells(study: Any) -> None:
    seeds = {"tuning": 0, "report": [1, 2]}
    plan = study.snakemake(
        "--dry-run", config=study.write_config("seeds.yaml", seeds=seeds, **own_clips(study.clips))
    )
    assert plan.status == 0, plan.text
    jobs = plan.jobs
    assert (jobs["stage1"], jobs["stage2"], jobs["captions"]) == (2, 2, 2)
    assert jobs["score"] == 1 and "select" not in jobs


def test_page_settings_rewrite_only_the_page(study: Any) -> None:
    own = {"report": {"title": "다른 제목", "gallery_clips": 4}, **own_clips(study.clips)}
    config = study.write_config("title.yaml", **own)
    plan = study.snakemake("--dry-run", config=config)
    assert set(plan.jobs) <= {"report", "all"} and plan.jobs["report"] == 1


def test_a_comment_in_the_config_reruns_nothing(study: Any) -> None:
    text = study.config.read_text("utf-8")
    config = study.config.with_name("comment.yaml")
    config.write_text("# a remark\n" + text, encoding="utf-8")
    assert study.snakemake("--dry-run", config=config).jobs == {}


# ---- What a change of the data runs again.


def stray(clips: Path) -> None:
    (clips / "notes.txt").write_text("note")
    (clips / "train/videos/.cache").mkdir()
    (clips / "train/videos/.cache/x.mp4").write_bytes(b"x")


def other_times(clips: Path) -> None:
    for path in clips.rglob("*"):
        os.utime(path, (1, 1))


def one_more(split: str) -> Callable[[Path], None]:
    def add(clips: Path) -> None:
        for kind in ("videos", "labels"):
            file = min((clips / split / kind).glob("[!b]*"))
            shutil.copy(file, file.with_stem("added"))

    return add


def no_change(clips: Path) -> None:
    """A copy elsewhere is change enough."""


TRAINED = {"vision_features", "scorer_features", "stage1", "stage2", "captions"}
JUDGED = {"baselines", "score", "tables", "report", "all"}
CAUSES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    # change → rules that run
    "moved": (no_change, set()),
    "copied with other times": (other_times, set()),
    "a file that is nobody's": (stray, set()),
    "a clip more in report": (
        one_more("report"),
        {"clips", "manifest", "vision_features", "scorer_features", "scorer_check"}
        | {"scorer_verdict", "captions", *JUDGED},
    ),
    "a clip more in train": (
        one_more("train"),
        {"clips", "manifest", "vision_features", "stage1", "stage2", "captions", *JUDGED}
        | {"select"},
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_change_of_the_data_runs_what_reads_it(study: Any, tmp_path: Path, cause: str) -> None:
    change, run = CAUSES[cause]
    copy = tmp_path / "copy"
    shutil.copytree(study.clips, copy)
    change(copy)
    config = study.write_config("changed.yaml", **own_clips(copy))
    plan = study.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    assert set(plan.jobs) == run
    assert not run or plan.jobs["clips"] == plan.jobs["vision_features"] == 1


SOURCE = Path(__file__).parents[2] / "src"


def add_projector(library: Path) -> None:
    folder = library / "siglip_study/projectors"
    text = (folder / "linear.py").read_text("utf-8")
    (folder / "another.py").write_text(text.replace('"linear"', '"another"'), "utf-8")


def add_metric(library: Path) -> None:
    guide = (SOURCE.parent / "docs/add-a-metric.md").read_text("utf-8")
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


@pytest.fixture
def plan_after(study: Any, tmp_path: Path) -> Callable[[Callable[[Path], None]], Any]:
    """The jobs that a finished study asks for once the library was edited."""

    def plan(edit: Callable[[Path], None]) -> Any:
        library = tmp_path / "library"
        shutil.copytree(SOURCE, library, ignore=shutil.ignore_patterns("__pycache__"))
        edit(library)
        plan = study.snakemake("--dry-run", config=study.config, library=library)
        assert plan.status == 0, plan.text
        return plan

    return plan


@pytest.mark.parametrize("edit", [add_projector, reword_errors, rename_module])
def test_code_that_computes_the_same_runs_nothing(plan_after: Any, edit: Any) -> None:
    assert plan_after(edit).jobs == {}


def test_a_new_metric_scores_again_and_trains_nothing(plan_after: Any) -> None:
    jobs = set(plan_after(add_metric).jobs)
    assert "score" in jobs and not jobs & TRAINED


def test_a_changed_projector_trains_its_own_cells(plan_after: Any) -> None:
    plan = plan_after(change_projector)
    trained = plan.cells("stage 1") | plan.cells("stage 2")
    assert trained and all(name.startswith("linear") for name in trained)


def test_a_raised_version_of_training_trains_every_cell(plan_after: Any) -> None:
    plan = plan_after(raise_training_version)
    trained = {name.split("_")[0] for name in plan.cells("stage 2")}
    assert trained == {"linear", "query"}
