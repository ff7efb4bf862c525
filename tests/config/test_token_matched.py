"""The token-matched table: every count it promises, on projectors that hold no memory."""

from pathlib import Path

import pytest
import torch

from siglip_study.config import load
from siglip_study.projectors import FeatureShape, build
from siglip_study.study import Study

ROOT = Path(__file__).parents[2]
COUNTS = (64, 1152)
CONNECTORS = (
    "linear",
    "mlp_2l",
    "query_abstractor",
    "query_perceiver",
    "c_abstractor",
    "perceiver",
)
COMPRESSORS = CONNECTORS[2:]


@pytest.fixture(scope="module")
def config():
    return load(ROOT / "config/token_matched.yaml")


@pytest.fixture(scope="module")
def built(config):
    shape = FeatureShape(8, (24, 24), 1024)
    with torch.device("meta"):
        return {
            label: build(p.type or label, shape, 4096, **p.options)
            for label, p in config.projectors.items()
        }


def test_every_connector_stands_at_both_counts(config):
    wanted = {f"{name}.{count}" for name in CONNECTORS for count in COUNTS}
    wanted |= {f"mlp_as_{name}.{count}" for name in COMPRESSORS for count in COUNTS}
    assert set(config.projectors) == wanted
    for label, projector in config.projectors.items():
        name = label.split(".")[0]
        assert projector.type == ("mlp_2l" if name.startswith("mlp_as_") else name)


def test_tokens_are_exactly_those_of_the_name(built):
    for label, projector in built.items():
        assert projector.tokens_per_video(8) == int(label.split(".")[1]), label
    features = torch.empty(1, 8, 576, 1024, device="meta")
    for label in ("linear.64", "mlp_2l.1152", "c_abstractor.64", "perceiver.1152"):
        assert built[label](features).shape == (1, int(label.split(".")[1]), 4096)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_each_mlp_is_as_large_as_its_compressor(built, name, count):
    matched = built[f"mlp_as_{name}.{count}"].n_parameters()
    assert matched == pytest.approx(built[f"{name}.{count}"].n_parameters(), rel=0.01)


def test_budgets_are_equal_and_what_is_shared_is_the_study_s(config):
    study = load(ROOT / "config/study.yaml")
    for part in ("data", "vision", "llm", "scorer", "training", "stage1", "stage2", "grid"):
        assert getattr(config, part) == getattr(study, part), part
    assert config.captions == study.captions and config.seeds == study.seeds
    cells = Study(config).tuning
    assert len(cells) == 20 * len(config.grid.learning_rate)
    assert len({(cell.run.stage1.epochs, cell.run.stage2.epochs) for cell in cells}) == 1
