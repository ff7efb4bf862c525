"""What a checkpoint holds, and whose it is."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support.kept import checkpoint_facts

from siglip_study.base.errors import Damaged, StudyError
from siglip_study.models.llm import load_llm, merge_adapters
from siglip_study.runs.run import load_adapters, load_projector, save_checkpoint
from tools.fault_campaign import DAMAGES


@pytest.fixture
def trained(make_model):
    """Not trained, but as far from its initialisation as if it were."""
    model = make_model("mlp_2l", lora=True).eval()
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def loss(model, features):
    return model.eval().caption_loss(features.batch(["a", "b"]), [[5, 6, 7, 2], [9, 2]])[0]


def test_a_round_trip_gives_the_model_back(trained, make_model, features, llm_config, tmp_path):
    """The merged adapters differ from those apart by rounding alone."""
    save_checkpoint(tmp_path / "c", trained, {"run": {"seed": 4}, "stage": 2})
    assert checkpoint_facts(tmp_path / "c")["run"] == {"seed": 4}
    again = make_model("mlp_2l", seed=77)
    again.feature_scale.fill_(99)
    load_projector(tmp_path / "c", again)
    again.llm = load_adapters(tmp_path / "c", again.llm, llm_config)
    torch.testing.assert_close(loss(again, features), loss(trained, features), rtol=1e-4, atol=0)
    for name, tensor in trained.state_dict().items():
        if not name.startswith("llm."):
            assert torch.equal(again.state_dict()[name], tensor), name
    assert not any(p.requires_grad for p in again.llm.parameters())


def test_merging_before_or_after_the_file_is_the_same_to_the_bit(trained, llm_config, tmp_path):
    save_checkpoint(tmp_path / "c", trained, {})
    llm = load_llm(llm_config, torch.device("cpu"))
    loaded = dict(load_adapters(tmp_path / "c", llm, llm_config).named_parameters())
    merged = dict(merge_adapters(trained.llm, llm_config).named_parameters())
    assert loaded.keys() == merged.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in merged.items())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["projector.safetensors", "lora/adapter_model.safetensors", "checkpoint.json"]
)
def test_damage_is_named_before_anything_is_loaded(trained, tmp_path, damage, name):
    save_checkpoint(tmp_path / "c", trained, {"stage": 2})
    damage(tmp_path / "c" / name)
    with pytest.raises(Damaged, match=rf"{name}: ") as told:
        load_projector(tmp_path / "c", trained)
    assert told.value.paths == (tmp_path / "c",)
    with pytest.raises(Damaged, match=rf"{name}: "):
        load_adapters(tmp_path / "c", trained.llm, trained)


def test_stage_one_has_no_adapters_and_no_llm_weights(make_model, tmp_path):
    save_checkpoint(tmp_path / "c", make_model(), {})
    files = {path.name for path in (tmp_path / "c").iterdir()}
    assert files == {".checkpoint.json.sha256", "checkpoint.json", "projector.safetensors"}
    scales, own = (
        ("feature_scale", "output_scale"),
        ("projector.proj.weight", "projector.proj.bias"),
    )
    assert set(load_file(tmp_path / "c" / "projector.safetensors")) == {*scales, *own}


def test_saving_asks_no_hub_and_writes_a_standard_adapter(trained, tmp_path, monkeypatch):
    import peft.utils.save_and_load as peft_saving

    monkeypatch.setattr(peft_saving, "check_file_exists_on_hf_hub", None)  # a call would fail
    trained.llm.peft_config["default"].base_model_name_or_path = "somebody/model"
    save_checkpoint(tmp_path / "c", trained, {})
    files = {path.name for path in (tmp_path / "c" / "lora").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    config = json.loads((tmp_path / "c" / "lora" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 4
    assert not any(path.suffix in {".bin", ".pt", ".pkl"} for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("mlp_2l", r"projector\.safetensors: tensor '.*' does not fit; expected [^\n]*\.$"),
        ("constant_prefix", r"projector\.safetensors: tensor '.*' does not fit"),
        (None, "no such checkpoint; expected stage 1 or 2 to have written it.$"),
    ],
)
def test_a_checkpoint_that_is_absent_or_anothers_is_refused(make_model, tmp_path, other, sentence):
    if other is not None:
        save_checkpoint(tmp_path / "c", make_model(other), {})
    model = make_model()
    before = model.projector.proj.weight.clone()
    with pytest.raises(StudyError, match=sentence):
        load_projector(tmp_path / "c", model)
    assert torch.equal(model.projector.proj.weight, before)
