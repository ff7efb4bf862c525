"""The configs for small machines are whole, for small models, and their grids expand."""

import re
from pathlib import Path

import pytest
import yaml

from siglip_study.config import load
from siglip_study.config.study import Config
from siglip_study.models.hub import architecture
from siglip_study.study import Study

ROOT = Path(__file__).parents[2]


SMALL = ("small", "laptop")
#: Keys that every study of one's own asks for.
OWN = ("output_dir", "root", "caption_key", "language", "prompt")


@pytest.fixture(scope="module", params=SMALL)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def small(name):
    return load(ROOT / f"config/{name}.yaml")


def test_every_projector_takes_the_same_steps(small):
    assert len({cell.run.stage2.epochs for cell in Study(small).tuning}) == 1


@pytest.mark.parametrize("config", [*SMALL, "study", "published", "token_matched"])
def test_what_is_a_users_own_is_marked(config):
    text = (ROOT / f"config/{config}.yaml").read_text(encoding="utf-8")
    for key in OWN:
        (line,) = re.findall(rf"^ *{key}: .*$", text, re.M)
        assert "# EDIT" in line, line


def test_it_stands_alone_and_repeats_no_default(small, name):
    raw = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))
    assert small == Config.model_validate(raw)
    said_anyway = {"data.layout", "stage1.batch_size", "stage2.batch_size", "vision.revision"}
    said_anyway |= {"data.caption_key", "data.language", "llm.prompt"}
    for name, section in raw.items():
        if not isinstance(section, dict) or name == "projectors":
            continue
        kept = getattr(small, name).model_dump(exclude_defaults=True)
        defaults = {f"{name}.{key}" for key in section if key not in kept}
        assert defaults <= said_anyway | {"grid.epochs"}, defaults


def test_the_models_fit_a_small_machine(small):
    llm = architecture(small.llm.model)
    assert llm["hidden_size"] == 1024 and llm["num_hidden_layers"] == 28
    for part in (small.vision, small.scorer):
        tower = architecture(part.model)["vision_config"]
        assert (tower["hidden_size"], tower["image_size"]) == (768, 224)
    # The scorer is another model than the encoder: it must not mark its own work.
    assert small.scorer.model != small.vision.model
