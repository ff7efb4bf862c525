"""What a training must not import: each job of a study pays for it again."""

import subprocess
import sys

UNUSED = {"altair", "av", "datasets", "decord", "evaluate", "kiwipiepy", "nltk", "snakemake"}
# peft imports bitsandbytes wherever that is installed, and it the compiler: a second and more.
ADAPTERS = {"bitsandbytes", "peft", "torch._inductor.compile_fx"}
STAGES = """
import sys
from siglip_study.training.stages import run_stage1, run_stage2
from siglip_study.captioning.cell import caption_while_loaded
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import add_lora, import_libraries, load_llm, load_tokenizer
config = LlmConfig(model="resources/demo/llm", quantization="none")
import_libraries(config, adapters={adapters})
"""


def imported(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_stage_1_imports_nothing_of_adapters_or_of_other_jobs():
    modules = imported(STAGES.format(adapters=False) + "print(*sys.modules)")
    assert "transformers.models.qwen3.modeling_qwen3" in modules
    assert not modules & (UNUSED | ADAPTERS)


def test_stage_2_imports_nothing_of_other_jobs_and_little_after_its_libraries():
    # What is imported while the model loads is searched for garbage from there on.
    code = STAGES.format(adapters=True) + (
        "import torch\n"
        "before = set(sys.modules)\n"
        "load_tokenizer(config)\n"
        "add_lora(load_llm(config, torch.device('cpu')), config.lora)\n"
        "late = set(sys.modules) - before\n"
        "assert len(late) < 20, late\n"
        "print(*sys.modules)"
    )
    modules = imported(code)
    assert {"peft", "transformers.models.qwen3.modeling_qwen3"} <= modules
    assert not modules & UNUSED
