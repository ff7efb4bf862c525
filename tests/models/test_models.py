"""Fetching a study's models ahead, against a hub made of dictionaries; no network."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError

from siglip_study.base.errors import StudyError
from siglip_study.config import load, parse
from siglip_study.models import fetch as models
from siglip_study.models.client import Hub, Revision
from siglip_study.models.fetch import (
    Model,
    fetch,
    main,
    models_of,
    setting_files,
    state,
    weight_files,
)

ROOT = Path(__file__).parents[2]
PIN = "b968826d9c46dd6066d109eabc6255188de91218"
INDEX = json.dumps(
    {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
)
TOKENIZER = {"tokenizer.json": "{}", "tokenizer_config.json": "{}", "merges.txt": "a b"}
PICKLES = {"pytorch_model.bin": "p", "pytorch_model.bin.index.json": "{}", "tf_model.h5": "t"}


def refusal(status, said):
    """What the hub's client raises for an answer of this status."""
    response = requests.Response()
    response.status_code = status
    return HfHubHTTPError(said, response=response)


class FakeHub(Hub):
    """A hub that writes the cache's own layout; ``repositories``: id → revision → files."""

    def __init__(self, cache, repositories, conversions=()):
        self.cache, self.repositories = cache, repositories
        self.conversions = dict(conversions)
        self.downloads = []

    def branches(self, model):
        """Commit → branch: branches and pull requests have commits of their own."""
        return {
            name if len(name) == 40 else f"{name.replace('/', ''):0<40}": name
            for name in self.repositories[model]
        }

    def files(self, model, revision):
        branches = self.branches(model)
        commit = next(c for c, b in branches.items() if (revision or "main") in (c, b))
        found = self.repositories[model][branches[commit]]
        return Revision(commit, {name: len(text) for name, text in found.items()})

    def converted(self, model):
        return self.conversions.get(model)

    def download(self, model, revision, names):
        self.downloads.append((model, revision, names))
        commit = self.files(model, revision).commit
        root = self.cache / f"models--{model.replace('/', '--')}"
        folder = root / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        if revision is None:
            (root / "refs").mkdir(exist_ok=True)
            (root / "refs" / "main").write_text(commit)
        source = self.repositories[model][self.branches(model)[commit]]
        for name in names:
            (folder / name).write_text(source[name])
        return folder


def quiet(line):
    """Say nothing of a fetch."""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


LLM = {
    PIN: {
        "config.json": "{}",
        "generation_config.json": "{}",
        "chat_template.jinja": "x",
        "README.md": "long",
        **TOKENIZER,
        **PICKLES,
        "original/consolidated.00.pth": "p",
        "consolidated.safetensors": "doubled",
        "model.safetensors.index.json": INDEX,
        "model-1-of-2.safetensors": "weights",
        "model-2-of-2.safetensors": "more",
    }
}
QWEN = Model("llm.model", "Qwen/Qwen3-8B", PIN, needs_tokenizer=True)
TOWER = Model("vision.model", "a/b", None)


@pytest.fixture
def hub(cache):
    """One that holds Qwen and a tower of one file of weights."""
    tower = {"main": {"config.json": "{}", "model.safetensors": "w"}}
    return FakeHub(cache, {QWEN.model: LLM, TOWER.model: tower})


def test_settings_and_safetensors_are_taken_and_nothing_else(hub):
    said = []
    assert state(QWEN) == ("absent", 0)
    folder = fetch(QWEN, hub, said.append)
    [(model, revision, names)] = hub.downloads
    assert (model, revision) == (QWEN.model, PIN)
    assert names == sorted(
        [
            *("config.json", "generation_config.json", "chat_template.jinja", *TOKENIZER),
            *("model-1-of-2.safetensors", "model-2-of-2.safetensors"),
            "model.safetensors.index.json",
        ]
    )
    assert state(QWEN) == ("cached", sum(len(LLM[PIN][name]) for name in names))
    # A second run asks nobody.
    assert fetch(QWEN, None, said.append) == folder
    assert "already there (cached" in said[-1]


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_text("")])
def test_a_lost_or_empty_file_is_fetched_again_and_only_that_is_counted(hub, lose):
    said = []
    path = fetch(QWEN, hub, quiet) / "model-2-of-2.safetensors"
    size = state(QWEN)[1]
    lose(path)
    assert state(QWEN) == ("incomplete", size - len("more"))
    fetch(QWEN, hub, said.append)
    assert state(QWEN) == ("cached", size)
    assert f"{len('more') / 1e9:.2f} GB to fetch" in said[0]


def test_an_empty_link_of_the_cache_is_cleared_away_with_what_it_names(hub):
    path = fetch(TOWER, hub, quiet) / "model.safetensors"
    blob = path.parent.parent / "blob"
    blob.touch()
    path.unlink()
    path.symlink_to(blob)
    assert state(TOWER)[0] == "incomplete"
    fetch(TOWER, hub, quiet)
    assert not path.is_symlink() and not blob.exists()
    assert state(TOWER)[0] == "cached"


@pytest.mark.parametrize("cut", ["{", "[]", "{}"])
def test_an_index_that_was_cut_off_is_a_sentence(hub, cut):
    folder = fetch(QWEN, hub, quiet)
    (folder / "model.safetensors.index.json").write_text(cut)
    for ask in (state, lambda model: fetch(model, hub)):
        with pytest.raises(StudyError, match=r"index\.json.*expected"):
            ask(QWEN)


def test_with_random_weights_none_are_fetched(hub):
    model = replace(QWEN, needs_weights=False)
    fetch(model, hub, quiet)
    assert not any("safetensors" in name for name in hub.downloads[0][2])
    assert state(model)[0] == "cached" and state(QWEN)[0] == "incomplete"


def test_of_a_pickle_the_converters_safetensors_are_fetched_and_the_pin_is_told(cache):
    plain = {"config.json": "{}", "preprocessor_config.json": "{}", **PICKLES}
    repository = {"main": plain, "refs/pr/8": {**plain, "model.safetensors": "safe"}}
    hub, said = FakeHub(cache, {TOWER.model: repository}, {TOWER.model: "refs/pr/8"}), []
    fetch(TOWER, hub, said.append)
    commit = f"{'refspr8':0<40}"
    assert hub.downloads[0][1] == commit and "pytorch_model.bin" not in hub.downloads[0][2]
    assert said[-1].endswith(f"vision.revision: {commit}")
    # The config as it was still names what has no safetensors; pinned, the model is there.
    assert state(TOWER)[0] == "absent"
    assert state(replace(TOWER, revision=commit))[0] == "cached"


def test_a_model_of_pickles_alone_is_refused(cache):
    repository = {"main": {"config.json": "{}", **PICKLES}}
    for conversions in ({}, {"a/b": "main"}):
        hub = FakeHub(cache, {"a/b": repository}, conversions)
        with pytest.raises(StudyError, match="no safetensors on the hub, and pickles are never"):
            fetch(TOWER, hub)
        assert not hub.downloads


def test_an_open_revision_is_told_so_that_it_can_be_pinned(hub):
    said = []
    fetch(TOWER, hub, said.append)
    assert said[-1].endswith(f"to pin it: vision.revision: {'main':0<40}")


def test_a_full_disk_is_said_before_the_download(hub, monkeypatch):
    monkeypatch.setattr(models.shutil, "disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(StudyError, match=r"needs 0.00 GB in .*HF_HOME on another disk"):
        fetch(QWEN, hub)
    assert not hub.downloads


def test_folders_are_checked_not_fetched(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("w")
    said = []
    assert fetch(Model("vision.model", str(tmp_path), None), None, said.append) == tmp_path
    assert "already there (folder" in said[0]
    with pytest.raises(StudyError, match=r"lacks files.*and its tokenizer"):
        fetch(Model("llm.model", str(tmp_path), None, needs_tokenizer=True), None)
    with pytest.raises(StudyError, match="no such folder"):
        fetch(Model("llm.model", str(tmp_path / "none"), None), None)


def test_the_models_of_a_config():
    study = load(ROOT / "config/study.yaml")
    assert [(m.key, m.model, m.revision) for m in models_of(study)] == [
        (f"{part}.model", getattr(study, part).model, getattr(study, part).revision)
        for part in ("vision", "llm", "scorer")
    ]
    raw = {
        "data": {"root": "d"},
        "projectors": {"linear": {}},
        "bertscore": {"model": "a/b", "layer": 2},
        "llm": {"weights": "random"},
    }
    found = models_of(parse(raw))
    assert found[-1] == Model("bertscore.model", "a/b", None, True, True, can_be_pinned=False)
    assert not found[1].needs_weights and found[1].needs_tokenizer


def test_every_model_on_an_axis_is_one_of_the_config():
    raw = {"data": {"root": "d"}, "projectors": {"linear": {}}}
    axes = {"vision.model": ["a/b", "c/d"], "vision.layer": [-2, -1], "llm.model": ["e/f"]}
    found = models_of(parse({**raw, "grid": axes}))
    assert [model.model for model in found[:-1]] == ["a/b", "c/d", "e/f"]


def test_the_command_lists_and_fetches(cache, tmp_path, capsys):
    demo = ROOT / "config/config.yaml"
    assert main(["list", str(ROOT / "config/study.yaml")]) == 1
    assert "llm.model: Qwen/Qwen3-8B @ b968826d9c46: absent" in capsys.readouterr().out
    config = tmp_path / "mine.yaml"
    config.write_text(
        demo.read_text(encoding="utf-8").replace("resources/", f"{ROOT / 'resources'}/")
    )
    assert main(["list", str(config)]) == 0
    assert capsys.readouterr().out.count(": folder, ") == 3
    assert main(["fetch", str(config)], FakeHub(cache, {})) == 0
    assert main(["list", str(tmp_path / "none.yaml")]) == 1
    assert "no such config file" in capsys.readouterr().err


def test_without_a_network_there_is_one_sentence(cache):
    with pytest.raises(StudyError, match=r"acme/tower: the hub cannot be reached \(.*\)\.$"):
        Hub().files("acme/tower", None)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(28, "No space left on device"), "no room for it ([Errno 28] No space left"),
        (refusal(429, "Too Many Requests"), "the hub answers with an error (Too Many Requests)"),
        (refusal(403, "Forbidden"), "the hub refuses this account (Forbidden)"),
    ],
)
def test_what_the_hub_or_the_disk_refuses_is_told_as_that(cache, monkeypatch, raised, told):
    def refuse(*asked, **keys):
        raise raised

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(StudyError) as error:
        Hub().files("acme/tower", None)
    assert str(error.value).startswith(f"acme/tower: {told}")


def test_file_names():
    assert weight_files(["model.safetensors", "model.fp16.safetensors"]) == ["model.safetensors"]
    assert weight_files(["model-1-of-2.safetensors"]) == weight_files(["x.safetensors"]) == []
    assert setting_files(["../config.json", "a/config.json", "evil.pkl", "x.bin", "run.py"]) == []
    assert setting_files(["vocab.txt", "vocab.json", "tokenizer.model", "notes.txt"]) == [
        "tokenizer.model",
        "vocab.json",
        "vocab.txt",
    ]
