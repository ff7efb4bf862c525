"""A stage at micro size, and the config of a micro study."""

import pytest


class Killed(BaseException):
    """Not an Exception: like a kill, nobody may catch it."""


@pytest.fixture(scope="session")
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.fixture
def killed():
    return Killed


@pytest.fixture
def train(accelerator, tmp_path, make_clips):
    """Run ``train_stage``; returns the position. Keywords change the stage's settings.

    ``pace``: seconds between two saves; ``forward``: most clips of a forward pass; ``dies``: the
    epoch after which it is killed; ``on_epochs``: what is told of each.
    """
    import torch

    from siglip_study.config.training import StageConfig
    from siglip_study.training.loop import train_stage
    from siglip_study.training.memory import MemoryPlan
    from siglip_study.training.resume import ResumePoint
    from siglip_study.training.step import StagePlan

    defaults = dict(
        epochs=2, learning_rate=1e-2, batch_size=2, gradient_accumulation=2, weight_decay=0.1
    )

    def run(
        model,
        clips=None,
        held=None,
        resume="resume",
        number=1,
        pace=1e9,
        forward=99,
        diagnosis=None,
        dies=None,
        on_epochs=(),
        beyond=None,
        **settings,
    ):
        def on_epoch(position):
            for told in on_epochs:
                told(position)
            if position.epochs[-1]["epoch"] == dies:
                raise Killed

        torch.set_num_threads(1)
        memory = MemoryPlan(forward, recomputed=0, eval_clips=4)
        stage = StageConfig(**defaults | settings).model_copy(update=beyond or {})
        plan = StagePlan(number, stage, 3, pace, memory)
        return train_stage(
            model,
            plan,
            clips or make_clips(10),
            held or make_clips(3, start=100),
            ResumePoint(tmp_path / resume),
            accelerator,
            lambda _: {"quick_n": 0},
            diagnosis,
            on_epoch,
        )

    return run


@pytest.fixture
def script(monkeypatch):
    """Let the next validation losses be these, one a call."""
    from siglip_study.training import loop

    def losses(*values):
        left = iter(values)
        monkeypatch.setattr(loop, "caption_losses", lambda *_: ([next(left)], [1]))

    return losses


@pytest.fixture(scope="session")
def micro_config(tiny_llm):
    """Builder of a raw config of one projector; keywords are top-level keys."""

    def build(folder, **changes):
        raw = {
            "output_dir": str(folder),
            "data": {"root": "x"},
            "projectors": {"linear": {}},
            "llm": {"model": str(tiny_llm), "quantization": "none", "lora": {"r": 2}},
            "vision": {"frames": 2},
            "training": {"quick_clips": 2, "quick_tokens": 4, "max_target_tokens": 64},
            "stage1": {"epochs": 2, "batch_size": 2, "gradient_accumulation": 1},
            "stage2": {"batch_size": 2, "gradient_accumulation": 1},
            "grid": {"learning_rate": [1e-2], "epochs": [1]},
        }
        return raw | changes

    return build
