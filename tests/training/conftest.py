"""A stage at micro size, and the bits it ends with."""

import pytest


@pytest.fixture(scope="session")
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.fixture
def train(accelerator, tmp_path, make_clips):
    """Run ``train_stage``; returns the position. Keywords change the stage's settings."""
    import torch

    from siglip_study.config.training import StageConfig
    from siglip_study.training.loop import train_stage
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
        forward=None,
        **settings,
    ):
        torch.set_num_threads(1)
        plan = StagePlan(number, StageConfig(**{**defaults, **settings}), 3, 4, pace, forward)
        return train_stage(
            model,
            plan,
            clips or make_clips(10),
            held or make_clips(3, start=100),
            ResumePoint(tmp_path / resume),
            lambda _: {"quick_n": 0},
            accelerator,
            lambda _: None,
        )

    return run


@pytest.fixture
def bits():
    """Everything a stage ends with that must repeat: weights and history without clocks."""

    def of(model, position):
        history = [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in [*position.steps, *position.epochs]
        ]
        weights = {name: p.detach().clone() for name, p in model.trainable().items()}
        return weights, history

    return of


@pytest.fixture
def micro_study(tmp_path, tiny_llm):
    """Builder of a study of one projector in ``tmp_path``; keywords are top-level keys."""
    from siglip_study.config import parse
    from siglip_study.study import Study

    def build(**changes):
        raw = {
            "output_dir": str(tmp_path),
            "data": {"root": "x"},
            "projectors": {"linear": {}},
            "llm": {"model": str(tiny_llm), "quantization": "none", "lora": {"r": 2}},
            "vision": {"frames": 2},
            "training": {"quick_clips": 2, "quick_tokens": 4, "max_target_tokens": 64},
            "stage1": {"epochs": 2, "batch_size": 2, "gradient_accumulation": 1},
            "stage2": {"batch_size": 2, "gradient_accumulation": 1},
            "grid": {"learning_rate": [1e-2], "epochs": [1]},
        }
        return Study(parse(raw | changes))

    return build
