"""The model card of an exported run (that it captions as the run did: test_two_cells.py)."""

import yaml
from support.micro_run import CELL, TOLD

from siglip_study.report.export import model_card
from siglip_study.study.cells import RunSpec


def test_a_card_says_what_it_is_how_sure_and_how_to_load_it():
    text = model_card(CELL, RunSpec(projector="linear"), TOLD, 200, [])
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["language"] == ["ko"]
    assert told["base_model"] == ["openai/clip-vit-large-patch14-336", "Qwen/Qwen3-8B"]
    for said in (
        "trained on 200 captioned clips",
        "(commit `c0ffee`; `pip install .` in a checkout); the study ran with torch 2.13.0",
        "VideoCaptioner.from_pretrained(",
        "linear leads.",
        "| linear | 1–2 | 4.37 [4.13, 4.60] | 96 % | 98 % | 64 |",
        "- Mind: One seed each",
    ):
        assert said in body


def test_what_a_config_says_is_text_on_the_card():
    spec = RunSpec(projector="linear", llm={"prompt": "What?\n\n# <img src=x onerror=alert(1)>"})
    text = model_card(CELL, spec, TOLD, 200, [])
    assert "“What? # &lt;img src=x onerror=alert(1)&gt;”" in text
    assert "<img" not in text


def test_a_local_model_is_named_by_its_folder_with_its_licence(tmp_path):
    folder = tmp_path / "my-llm"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# My LLM\n")
    spec = RunSpec(projector="linear", llm={"model": str(folder)})
    text = model_card(CELL, spec, TOLD, 200, ["llm"])
    assert "| language model | `my-llm` | `models/llm` |" in text
    assert "language model `my-llm`: apache-2.0" in text
    assert str(tmp_path) not in text
    assert "put that folder into `models/llm`" in model_card(CELL, spec, TOLD, 200, [])
