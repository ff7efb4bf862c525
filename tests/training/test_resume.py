"""A stage killed anywhere and started again ends with the bits of one left alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from siglip_study.base import io
from siglip_study.base.errors import StudyError
from siglip_study.training import loop
from siglip_study.training import resume as module
from siglip_study.training.resume import Position, ResumePoint

CALLS = 2 * 5 + 2 * 1  # forward passes of two epochs of ten clips, and their validations


class Killed(BaseException):
    """Not an Exception: like a kill, nobody may catch it."""


class Fragile:
    """Features that kill the run at the k-th call."""

    def __init__(self, source, k, kill=None):
        self.source, self.left, self.kill = source, k, kill

    def batch(self, ids):
        if self.left == 0:
            self.kill() if self.kill else self._raise()
        self.left -= 1
        return self.source.batch(ids)

    def _raise(self):
        raise Killed


@pytest.fixture
def dropping(llm_config):
    """Adapters with dropout: the draws must repeat too."""
    lora = llm_config.lora.model_copy(update={"dropout": 0.3})
    return llm_config.model_copy(update={"lora": lora})


@pytest.fixture
def undisturbed(make_model, dropping, train, bits):
    model = make_model(lora=True, config=dropping)
    return bits(model, train(model, resume="undisturbed", number=2))


def assert_same(found, expected):
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    for name, weight in expected[0].items():
        assert torch.equal(found[0][name], weight), name


def test_dropout_is_really_on(make_model, dropping, train, bits, undisturbed, llm_config):
    model = make_model(lora=True, config=llm_config)
    assert bits(model, train(model, number=2))[1] != undisturbed[1]


@pytest.mark.parametrize("pace", [0.0, 1e9], ids=["saved every step", "saved every epoch"])
@pytest.mark.parametrize("k", [0, 1, 4, 5, 6, 7, 10, 11])
def test_killed_and_resumed_is_bit_identical(
    make_model, make_clips, features, dropping, train, bits, undisturbed, pace, k
):
    fragile = Fragile(features, k)
    model = make_model(lora=True, config=dropping)
    clips, held = make_clips(10, source=fragile), make_clips(3, start=100, source=fragile)
    with pytest.raises(Killed):
        train(model, clips, held, number=2, pace=pace)
    torch.rand(17)  # whatever state the generator was left in
    model = make_model(lora=True, config=dropping)
    assert_same(bits(model, train(model, number=2, pace=pace)), undisturbed)


def test_killed_again_and_again(
    make_model, make_clips, features, dropping, train, bits, undisturbed
):
    deaths = 0
    while True:
        fragile = Fragile(features, 3)
        clips, held = make_clips(10, source=fragile), make_clips(3, start=100, source=fragile)
        model = make_model(lora=True, config=dropping)
        try:
            position = train(model, clips, held, number=2, pace=0.0)
        except Killed:
            deaths += 1
            assert deaths < CALLS
        else:
            break
    assert deaths >= 3
    assert_same(bits(model, position), undisturbed)


def test_the_best_epochs_weights_survive_a_kill(
    make_model, make_clips, features, train, bits, monkeypatch
):
    """The best epoch is over before the kill, and what comes after it is worse."""

    def script(*losses):
        values = iter(losses)
        monkeypatch.setattr(loop, "caption_losses", lambda *_: ([next(values)], [1]))

    script(1.0, 2.0)
    model = make_model()
    expected = bits(model, train(model, resume="whole", keep="val_loss"))
    script(1.0)
    with pytest.raises(Killed):
        train(make_model(), make_clips(10, source=Fragile(features, 7)), keep="val_loss")
    script(2.0)
    model = make_model()
    position = train(model, keep="val_loss")
    assert position.best_epoch == 1
    assert_same(bits(model, position), expected)


@pytest.mark.parametrize("where", ["save_file", "write_json", "rmtree"])
def test_killed_while_saving(make_model, dropping, train, bits, undisturbed, monkeypatch, where):
    calls = iter(range(99))
    holder = io.shutil if where == "rmtree" else module
    real = getattr(holder, where)

    def dying(*args, **kwargs):
        if next(calls) == 2:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(holder, where, dying)
        model = make_model(lora=True, config=dropping)
        with pytest.raises(Killed):
            train(model, number=2, pace=0.0)
    model = make_model(lora=True, config=dropping)
    assert_same(bits(model, train(model, number=2, pace=0.0)), undisturbed)


def test_a_finished_stage_is_taken_as_it_is(make_model, train, bits, undisturbed, dropping):
    """Killed between the last save and the checkpoint: no step is taken twice."""
    model = make_model(lora=True, config=dropping)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.normal_()
    assert_same(bits(model, train(model, resume="undisturbed", number=2)), undisturbed)


def test_a_point_of_other_data_is_not_continued(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    position = Position.start()
    position.step = 7
    ResumePoint(tmp_path, "old data").save(position, {"w": weight}, {}, optimizer, {})
    assert ResumePoint(tmp_path, "old data").load({"w": weight}, {}, optimizer)[0].step == 7
    assert ResumePoint(tmp_path, "new data").load({"w": weight}, {}, optimizer)[0].step == 0
    assert not list(tmp_path.glob("step-*"))


def test_half_written_folders_are_ignored(make_model, dropping, train, bits, undisturbed, tmp_path):
    for name in (".step-00000099.123.partial", ".step-00000098.dropped"):
        (tmp_path / "resume" / name).mkdir(parents=True)
        (tmp_path / "resume" / name / "state.json").write_text("{")
    model = make_model(lora=True, config=dropping)
    assert_same(bits(model, train(model, number=2)), undisturbed)


def test_one_point_is_kept(make_model, train, tmp_path):
    train(make_model(), pace=0.0)
    folder = tmp_path / "resume"
    assert [path.name for path in folder.iterdir()] == ["step-00000006"]
    assert {path.suffix for path in (folder / "step-00000006").iterdir()} == {
        ".safetensors",
        ".json",
    }


def test_a_success_interrupted_while_cleaning_leaves_nothing_that_misleads(
    make_model, train, tmp_path, monkeypatch
):
    train(make_model())

    def half(path, **_):
        next(p for p in Path(path).rglob("*") if p.is_file()).unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(io.shutil, "rmtree", lambda p, **k: half(p) if Path(p).exists() else None)
        with pytest.raises(Killed):
            io.remove_dir(tmp_path / "resume")
    assert train(make_model()).step == 6


def test_the_number_of_threads_is_that_of_the_first_life(tmp_path):
    torch.set_num_threads(2)
    try:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
        ResumePoint(tmp_path).save(Position.start(), {}, {}, optimizer, {})
    finally:
        torch.set_num_threads(1)
    assert ResumePoint(tmp_path).load({}, {}, optimizer)[0].threads == 2


def test_a_second_owner_is_refused_in_one_sentence(tmp_path):
    with ResumePoint(tmp_path).owned():
        second = ResumePoint(tmp_path).owned()
        with pytest.raises(StudyError, match=f"process {os.getpid()} on ") as error:
            second.__enter__()
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    with ResumePoint(tmp_path).owned():
        pass


LIFE = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
import conftest
from accelerate import Accelerator
from pathlib import Path
from siglip_study.config.training import LlmConfig, LoraConfig, StageConfig
from siglip_study.models.llm import add_lora, load_llm, load_tokenizer, prompt_layout
from siglip_study import projectors
from siglip_study.runs.clips import Clips, tokenize_captions
from siglip_study.training.loop import StagePlan, train_stage
from siglip_study.training.resume import ResumePoint
from siglip_study.models.vlm import VisionLanguageModel

class Deadly(conftest.MadeFeatures):
    left = 8
    def batch(self, ids):
        if not Deadly.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Deadly.left -= 1
        return super().batch(ids)

torch.set_num_threads(1)
config = LlmConfig(model={llm!r}, quantization="none", lora=LoraConfig(r=4, alpha=8, dropout=0.3))
tokenizer = load_tokenizer(config)
llm = load_llm(config, torch.device("cpu"))
torch.manual_seed(0)
shape = projectors.FeatureShape(conftest.FRAMES, conftest.GRID, conftest.DIM)
projector = projectors.build("linear", shape, 32)
model = VisionLanguageModel(projector, llm, prompt_layout(tokenizer, config))
first = conftest.MadeFeatures().batch([f"clip{{i}}" for i in range(8)])
model.calibrate(first, match_embeddings=True)
torch.manual_seed(1)
model.llm = add_lora(model.llm, config.lora)

def clips(n, start=0):
    texts = [["빨간 공 " * (1 + i % 3) + str(i)] for i in range(start, start + n)]
    tokens, cut = tokenize_captions(tokenizer, texts, 2, 64)
    return Clips(tuple(f"clip{{i}}" for i in range(start, start + n)), Deadly(), tokens, cut)

settings = StageConfig(
    epochs=2, learning_rate=1e-2, batch_size=2, gradient_accumulation=2, weight_decay=0.1
)
resume = ResumePoint(Path({folder!r}))
with resume.owned():
    train_stage(
        model, StagePlan(2, settings, 3, 4, 0.0), clips(10), clips(3, 100), resume,
        lambda _: {{"quick_n": 0}}, Accelerator(cpu=True), lambda _: None,
    )
"""


def test_a_real_kill_9(make_model, dropping, train, bits, undisturbed, tiny_llm, tmp_path):
    """Another process dies by SIGKILL in its second epoch; this one finishes its work."""
    folder = tmp_path / "resume"
    code = LIFE.format(tests=str(Path(__file__).parents[1]), llm=str(tiny_llm), folder=str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    [point] = folder.glob("step-*")
    assert load_file(point / "state.safetensors")
    with ResumePoint(folder).owned():  # the kernel gave the dead owner's lock back
        model = make_model(lora=True, config=dropping)
        assert_same(bits(model, train(model, number=2, pace=0.0)), undisturbed)
