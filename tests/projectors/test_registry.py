"""Exact names, typed options, one class a name, and the how-to of the documentation."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import siglip_study.projectors as package
from siglip_study.base.errors import StudyError
from siglip_study.projectors import (
    FeatureShape,
    build,
    check_options,
    projector_class,
    projector_code,
    projector_names,
    register,
    registry,
)
from siglip_study.projectors.linear import LinearProjector

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-projector.md"


@pytest.fixture
def clean_registry(monkeypatch):
    """Forget what a test registers, and the modules it imports."""
    for name in projector_names():
        projector_class(name)
    before = set(sys.modules)
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(f"{package.__name__}."):
            del sys.modules[name]


def test_listing_names_imports_no_torch():
    code = (
        "import sys; from siglip_study.projectors import projector_names; "
        "assert 'linear' in projector_names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        *[("mlp", "mlp_2l"), ("mof_mlp_2l", "mlp_2l"), ("linear ", "linear"), ("Linear", "linear")],
        *[("query", "query_perceiver"), ("perceive", "perceiver")],
        *[("base", ""), ("registry", ""), ("_pooling", ""), ("", "")],
    ],
)
def test_only_exact_names_are_found(wrong, nearest):
    with pytest.raises(StudyError, match=f"projector {wrong!r} is unknown; expected .*{nearest}"):
        projector_class(wrong)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mlp_2l", {"hiden": 8}, "option 'hiden' is unknown; expected 'hidden'"),
        ("linear", {"hidden": 8}, "option 'hidden' is unknown; expected one of: tok"),
        ("linear", {"shape": 8}, "option 'shape' is unknown"),
        ("mlp_2l", {"hidden": "8"}, r"option 'hidden' is '8'; expected type int \| None"),
        ("mlp_2l", {"hidden": 8.0}, "expected type int"),
        ("mlp_2l", {"hidden": True}, "expected type int"),
        ("perceiver", {"per_frame": 1}, "option 'per_frame' is 1; expected type bool"),
        ("perceiver", {"depth": None}, "option 'depth' is None; expected type int"),
    ],
)
def test_options_are_checked_against_the_signature(name, options, says):
    with pytest.raises(StudyError, match=says):
        check_options(name, options)


def test_checked_options_hold_the_defaults():
    assert check_options("perceiver", {"latents": 4}) == {
        **{"latents": 4, "depth": 6, "heads": 8, "head_dim": 64},
        **{"per_frame": True, "width": None},
    }
    assert check_options("linear", {}) == {"tokens_per_frame": None}


def test_a_name_cannot_be_taken_twice(clean_registry):
    @register("mine")
    class Mine(LinearProjector):
        pass

    for name in ("mine", "linear"):
        with pytest.raises(StudyError, match=f"projector '{name}' is registered twice"):
            register(name)(Mine)
    assert "mine" in projector_names()
    assert isinstance(build("mine", FeatureShape(1, (1, 2), 4), 6), Mine)


def test_the_guide_works_as_written(clean_registry, monkeypatch, tmp_path):
    block = r"```python\n(# src/siglip_study/projectors/(\w+)\.py\n.*?)```"
    ((source, written),) = re.findall(block, GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    # Under another name, for a reader who followed the guide to the letter has that file already.
    name = f"{written}_from_the_guide"
    source = source.replace(f'@register("{written}")', f'@register("{name}")')
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    assert name not in projector_names()
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert name in projector_names()
    shape = FeatureShape(3, (4, 6), 8)
    projector = build(name, shape, 16, side=2)
    tokens = projector(torch.randn(2, 3, 24, 8))
    assert tokens.shape == (2, projector.tokens_per_video(3), 16)
    assert projector.no_decay_parameters() == {"proj.bias", "frame_embeddings"}
    with pytest.raises(StudyError, match="expected 'side'"):
        build(name, shape, 16, sied=2)


@pytest.mark.parametrize(
    ("frames", "grid", "dim"), [(0, (1, 1), 1), (1, (0, 1), 1), (1, (1,), 1), (1, (1, 1), 0)]
)
def test_sizes_of_features_are_positive(frames, grid, dim):
    with pytest.raises(StudyError, match=r"expected .* at least 1"):
        FeatureShape(frames, grid, dim)


def test_a_file_must_register_its_own_name(clean_registry, monkeypatch, tmp_path):
    (tmp_path / "silent.py").write_text("VALUE = 1\n")
    (tmp_path / "misnamed.py").write_text(
        "from siglip_study.projectors.linear import LinearProjector\n"
        "from siglip_study.projectors.registry import register\n"
        "@register('other')\nclass Other(LinearProjector): ...\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(StudyError, match=r"silent\.py registers nothing"):
        projector_class("silent")
    with pytest.raises(StudyError, match="registers projector 'other'; expected 'misnamed'"):
        projector_class("misnamed")


@pytest.fixture
def code_after(tmp_path, monkeypatch):
    """The code hash of a projector after a line is added to a file of a copy of the package."""
    home = Path(registry.__file__).parent

    def of(name, changed=None):
        for path in home.glob("*.py"):
            line = "\nADDED = 1\n" if path.name == changed else ""
            (tmp_path / path.name).write_text(path.read_text(encoding="utf-8") + line)
        monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
        return registry.projector_code.__wrapped__(name)

    return of


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        *[("linear.py", True), ("_pooling.py", True), ("base.py", True)],
        *[("perceiver.py", False), ("_attention.py", False), ("registry.py", False)],
    ],
)
def test_a_projector_counts_with_its_own_file_and_what_it_imports(code_after, changed, counts):
    assert (code_after("linear", changed) != code_after("linear")) is counts


# ---- From a package of the user's own.

OUTSIDE = """
from torch import nn
from siglip_study.projectors.base import Projector
from my_merging.sizes import SIDE

class Merger(Projector):
    def __init__(self, shape, llm_dim, *, side: int = SIDE):
        super().__init__(shape, llm_dim)
        self.proj = nn.Linear(shape.dim, llm_dim)

    def project(self, features):
        return self.proj(features).flatten(1, 2)

    def tokens_per_video(self, frames):
        return frames * self.shape.patches

def helper():
    return None
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package on Python's path, by the text of its module."""
    folder = tmp_path / "my_merging"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "sizes.py").write_text("SIDE = 2\n")
    (folder / "merger.py").write_text(OUTSIDE)
    (folder / "broken.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    projector_code.cache_clear()
    yield folder
    for name in [name for name in sys.modules if name.startswith("my_merging")]:
        del sys.modules[name]
    projector_code.cache_clear()


def test_a_projector_from_outside_is_built_and_its_options_are_checked(outside):
    built = build("my_merging.merger:Merger", FeatureShape(2, (2, 3), 8), 16)
    assert built(torch.randn(1, 2, 6, 8)).shape == (1, 12, 16)
    with pytest.raises(StudyError, match="option 'sied' is unknown; expected 'side'"):
        check_options("my_merging.merger:Merger", {"sied": 3})


@pytest.mark.parametrize("changed", ["merger.py", "sizes.py"])
def test_its_own_code_decides_whether_it_trains_again(outside, changed):
    before = projector_code("my_merging.merger:Merger")
    linear = projector_code("linear")
    with (outside / changed).open("a") as file:
        file.write("MORE = 1\n")
    projector_code.cache_clear()
    assert projector_code("my_merging.merger:Merger") != before
    assert projector_code("linear") == linear


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_merging.nothing:Merger", "Python finds no module 'my_merging.nothing'"),
        ("no_package_so_called.x:Merger", "finds no module"),
        ("..:x", "finds no module"),
        ("sys:path", "finds no module"),  # built in: no file
        ("my_merging.merger:helper", "no 'helper' that is a Projector"),
        ("my_merging.merger:", "no '' that is a Projector"),
        ("my_merging.broken:Merger", "cannot be imported: No module named"),
    ],
)
def test_what_is_no_projector_outside_is_named(outside, name, says):
    with pytest.raises(StudyError, match=says):
        projector_class(name)
