"""An exported run on a hub: pushed, fetched and loaded through HTTP, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from support.clips import write_clip
from support.fake_hub import FakeHub
from support.micro_run import write_micro_run

from siglip_study.base.errors import StudyError
from siglip_study.captioning import VideoCaptioner
from siglip_study.config.study import RuntimeConfig
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.report.export import export_run

RUNTIME = RuntimeConfig(device="cpu")
REPO = "acme/winner"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path) -> Path:
    """A run of a study, whose models no other machine has."""
    root = tmp_path_factory.mktemp("study")
    lora = LoraConfig(r=4, alpha=8, dropout=0.0)
    return write_micro_run(root, LlmConfig(model=str(tiny_llm), quantization="none", lora=lora))


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "winner"
    export_run(run, out)
    return out


@pytest.fixture(scope="module")
def captioner(exported: Path) -> VideoCaptioner:
    return VideoCaptioner.from_pretrained(exported, runtime=RUNTIME)


def load(name: str, **keys: str) -> VideoCaptioner:
    return VideoCaptioner.from_pretrained(name, runtime=RUNTIME, **keys)


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_was_pushed_captions_as_the_run_did(
    fake_hub: FakeHub, run: Path, captioner: VideoCaptioner, tmp_path: Path
) -> None:
    clips = [write_clip(tmp_path / "a.mp4"), write_clip(tmp_path / "b.mp4", range(0, 300, 20))]
    commit = captioner.push_to_hub(REPO)
    fetched = load(REPO, revision=commit)
    said = [caption.text for caption in fetched(clips)]
    assert said == [caption.text for caption in VideoCaptioner(run, RUNTIME)(clips)]
    assert all(said)
    # Where its models lay when it was trained, it did not look.
    assert str(fetched.run.llm.model).startswith(str(tmp_path / "home"))


def test_pushed_saved_and_exported_are_the_same_files(
    fake_hub: FakeHub, exported: Path, captioner: VideoCaptioner, tmp_path: Path
) -> None:
    whole = files(exported)
    captioner.save_pretrained(tmp_path / "copy")
    assert files(tmp_path / "copy") == whole
    commit = captioner.push_to_hub(REPO)
    assert files(fake_hub.root / REPO / commit) == whole
    # A model card of ours, and no settings that a client made of the call.
    assert b"captions of videos" in whole["README.md"] and "config.json" not in whole


def test_of_a_repository_only_the_files_of_an_export_are_fetched(
    fake_hub: FakeHub, exported: Path, tmp_path: Path
) -> None:
    evil = {name: b"" for name in ("run.py", "checkpoint/lora/adapter_model.bin", "models/x.pkl")}
    fake_hub.commit(REPO, files(exported) | evil)
    load(REPO)
    here = {path.name for path in (tmp_path / "home").rglob("*")}
    assert "adapter_model.safetensors" in here
    assert not here & {Path(name).name for name in evil}


def test_a_module_that_a_repository_names_is_not_imported(
    fake_hub: FakeHub, exported: Path
) -> None:
    cell = json.loads((exported / "cell.json").read_text("utf-8"))
    cell["run"] |= {"projector": "antigravity:Projector"}
    fake_hub.commit(REPO, files(exported) | {"cell.json": json.dumps(cell).encode()})
    with pytest.raises(StudyError, match="its projector is 'antigravity:Projector', a module"):
        load(REPO)
    assert "antigravity" not in sys.modules


def test_a_pinned_run_needs_no_network_again(
    fake_hub: FakeHub, captioner: VideoCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = captioner.push_to_hub(REPO)
    load(REPO, revision=commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = len(fake_hub.asked)
    load(REPO, revision=commit)
    assert len(fake_hub.asked) == before
    with pytest.raises(StudyError, match="acme/other: not whole in the local cache, and the hub"):
        load("acme/other")


@pytest.mark.parametrize(
    ("name", "revision", "says"),
    [
        ("acme/nothing", None, "acme/nothing: the hub has no such model"),
        (REPO, "0" * 40, f"{REPO}: the hub has no revision {'0' * 40} of it"),
        (REPO, "v9", f"{REPO}: the hub has no revision v9"),
        ("ac me/win ner", None, "no id of the hub; expected 'owner/name'"),
        ("./no/such", None, r"\./no/such: no such folder; expected an exported run, or a repo"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    fake_hub: FakeHub, name: str, revision: str | None, says: str
) -> None:
    fake_hub.commit(REPO, {"README.md": b"# Nothing else"})
    with pytest.raises(StudyError, match=says) as told:
        load(name, revision=revision)
    assert "\n" not in str(told.value)


def test_a_repository_that_is_no_export_is_told(fake_hub: FakeHub) -> None:
    fake_hub.commit(REPO, {"config.json": b"{}", "model.safetensors": b""})
    with pytest.raises(StudyError, match=r"no run; expected .*or an export of one"):
        load(REPO)


def test_without_a_token_nothing_is_pushed(
    fake_hub: FakeHub, captioner: VideoCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(StudyError, match=f"{REPO}: the hub refuses this account .*hf auth login"):
        captioner.push_to_hub(REPO)
    assert not fake_hub.has(REPO)


def test_what_is_pushed_is_private_unless_asked(
    fake_hub: FakeHub, captioner: VideoCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner.push_to_hub(REPO)
    captioner.push_to_hub("acme/open", private=False)
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    load("acme/open")
    with pytest.raises(StudyError, match=f"{REPO}: the hub has no such model, or not for this"):
        load(REPO)


def test_a_run_that_was_not_exported_names_the_command(run: Path, tmp_path: Path) -> None:
    captioner = VideoCaptioner(run, RUNTIME)
    command = f"python -m siglip_study.report.export {run} "
    for share in (captioner.save_pretrained, captioner.push_to_hub):
        with pytest.raises(StudyError, match=f"no exported run; expected .*{command}"):
            share(tmp_path / "copy")


def test_a_copy_replaces_nothing(captioner: VideoCaptioner, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(StudyError, match="is there already"):
        captioner.save_pretrained(tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_has_no_revision(exported: Path) -> None:
    with pytest.raises(StudyError, match=r"revision is 'v1', but .* is a folder; expected none"):
        load(str(exported), revision="v1")


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "theirs"))


def test_settings_of_adapters_that_somebody_wrote_are_not_read(
    copy: Path, captioner: VideoCaptioner, tmp_path: Path
) -> None:
    """peft would import the module that they name."""
    settings = copy / "checkpoint/lora/adapter_config.json"
    told = json.loads(settings.read_text())
    settings.write_text(json.dumps(told | {"megatron_config": {"a": 1}, "megatron_core": "this"}))
    forget_digests(copy)
    clip = write_clip(tmp_path / "a.mp4")
    assert list(load(str(copy))([clip])) == list(captioner([clip]))
    assert "this" not in sys.modules


def test_a_pickle_in_the_place_of_adapters_is_not_opened(copy: Path) -> None:
    lora = copy / "checkpoint/lora"
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    forget_digests(copy)
    with pytest.raises(StudyError, match=r"adapter_model\.safetensors: no such file; expected"):
        load(str(copy))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"run": None}, r"cell\.json: run"),
        ({"run": {"projector": "linear", "seed": "one"}}, r"cell\.json: run.*seed"),
        ({"run": {"projector": "linear", "llm": {"code": "x"}}}, r"cell\.json: run.*llm\.code"),
    ],
)
def test_a_run_that_no_study_wrote_is_one_sentence(
    copy: Path, change: dict[str, object], says: str
) -> None:
    path = copy / "cell.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StudyError, match=says) as told:
        load(str(copy))
    assert "\n" not in str(told.value)


def forget_digests(folder: Path) -> None:
    """As whoever wrote the folder could."""
    path = folder / "checkpoint/checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {}}))
