"""The model card of an exported run (that it captions as the run did: test_two_cells.py)."""

import yaml

from siglip_study.report.export import model_card
from siglip_study.study.cells import RunSpec

CELL = {
    "cell": "linear_a7daac0c",
    "role": "report",
    "seed": 1,
    "projector_parameters": 37056,
    "lora_parameters": 18432,
    "tokens_per_video": 64,
    "versions": {"siglip-study": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
    "git_commit": "c0ffee",
}


LINE = {
    "projector": "linear",
    "ranked": True,
    "rank_low": 1,
    "rank_high": 2,
    "margin": 4.37,
    "low": 4.13,
    "high": 4.60,
    "of_human": 0.96,
    "distinct": 0.98,
    "tokens": 64,
}
TOLD = {
    "context": {"en": "61 held-out clips", "ko": "평가 영상 61개"},
    "headline": {"en": "linear leads.", "ko": "linear가 앞섭니다."},
    "advice": [{"en": "Avoid mlp_2l.", "ko": "피해야 할 것: mlp_2l."}],
    "checks": [{"good": False, "text": {"en": "One seed each", "ko": "시드 하나"}}],
    "lines": [LINE],
    "answer": {"refusal": None},
    "config": {"data": {"language": "ko"}},
}


def test_a_card_says_what_it_is_how_sure_and_how_to_load_it():
    text = model_card(CELL, RunSpec(projector="linear"), TOLD, 200, [])
    _, head, body = text.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["language"] == ["ko"]
    assert told["base_model"] == ["openai/clip-vit-large-patch14-336", "Qwen/Qwen3-8B"]
    for said in (
        "trained on 200 captioned clips",
        "(commit `c0ffee`; `pip install .` in a checkout); the study ran with torch 2.13.0",
        "VideoCaptioner(",
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
