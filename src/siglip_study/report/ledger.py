"""The fairness ledger: what each projector was given, and where that differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siglip_study.config.axes import EPOCHS, RATE, told_key
from siglip_study.config.training import VisionConfig
from siglip_study.ranking.selection import StudySelection
from siglip_study.report.language import NOTHING, Text, join, listed, sentence
from siglip_study.report.results import (
    CellResult,
    axes_of,
    chosen_text,
    mean,
    only,
    report_runs,
    settings_json,
)


def ledger_rows(cells: list[CellResult], selection: StudySelection) -> list[dict[str, Any]]:
    """Rows of the ``ledger`` table, one a projector: what one of its report runs took.

    Figures are means over the report seeds; both stages together unless the name says otherwise.
    """
    human = only(cells, "references")
    rows = []
    for label, runs in report_runs(cells).items():
        told = selection.projectors.get(label)
        first = runs[0]
        rows.append(
            {
                "projector": label,
                "chosen_cell": chosen_text(selection, label),
                "report_seeds": ", ".join(sorted(str(cell.seed) for cell in runs)),
                "learning_rate": first.key(RATE),
                "epochs": first.key(EPOCHS),
                "settings": settings_json(selection, first),
                "samples_seen": _both(runs, "samples_seen"),
                "optimizer_steps": _both(runs, "optimizer_steps"),
                "tokens_per_video": first.run.get("tokens_per_video"),
                "projector_parameters": first.run.get("projector_parameters"),
                "lora_parameters": first.run.get("lora_parameters"),
                "flops": _both(runs, "flops"),
                "gpu_s": _both(runs, "gpu_s"),
                "wall_s": _both(runs, "wall_s"),
                "gpus": first.run.get("gpus"),
                "peak_gpu_gb": max((c.run.get("peak_gpu_gb") or 0.0 for c in runs), default=None),
                "truncated_captions": mean([c.metrics.get("truncated_share") for c in runs]),
                "truncated_targets": mean([c.run.get("truncated_targets") for c in runs]),
                "sentences": mean([c.value("sentences") for c in runs]),
                "reference_sentences": human.value("sentences") if human else None,
                "n_tuned": told and told.n_cells,
                "n_tuning_seeds": told and told.n_tuning_seeds,
                "n_collapsed": told and told.n_collapsed,
            }
        )
    return rows


def _both(runs: list[CellResult], key: str) -> float | None:
    """Mean over seeds of stage 1 plus stage 2; None where a stage does not tell."""
    parts = [(cell.cost(f"stage1_{key}"), cell.cost(key)) for cell in runs]
    return mean([None if a is None or b is None else float(a) + float(b) for a, b in parts])


def _of_run(name: str) -> Callable[[CellResult], Any]:
    """A key of ``cell.json``."""
    return lambda cell: cell.run.get(name)


def _version(package: str) -> Callable[[CellResult], Any]:
    return lambda cell: (cell.run.get("versions") or {}).get(package)


def _clips_a_step(stage: str) -> Callable[[CellResult], Any]:
    def get(cell: CellResult) -> Any:
        batch, times = (cell.key(f"{stage}.{k}") for k in ("batch_size", "gradient_accumulation"))
        return None if batch is None or times is None else batch * times

    return get


_TUNED = Text(
    "the budget is tuned, so each projector took the one that suited it best",
    "예산은 탐색해서 정하므로 프로젝터마다 가장 알맞은 것을 썼습니다",
)
_OWN = Text(
    "the config gives projectors epochs of their own, as for equal GPU time",
    "GPU 시간을 맞추는 등의 이유로 설정이 프로젝터마다 다른 에폭을 줍니다",
)

#: What one loaded language model goes by.
_OF_LLM = ("model", "revision", "weights", "quantization")

_SCORED = Text("clips scored", "채점한 영상")

_AXIS = Text(
    "it is an axis of the grid, so each projector took the value that suited it best",
    "격자의 축이므로 프로젝터마다 가장 알맞은 값을 썼습니다",
)

#: What should be equal: words, how to read it from a run (or its dotted key), and what a difference
#: may come from.
EQUAL: tuple[tuple[Text, str | Callable[[CellResult], Any], Text], ...] = (
    (
        Text("samples of stage 1", "1단계 샘플"),
        lambda cell: cell.stage1.get("samples_seen"),
        NOTHING,
    ),
    (Text("samples of stage 2", "2단계 샘플"), _of_run("samples_seen"), _TUNED),
    (
        Text("optimizer steps of stage 1", "1단계 스텝"),
        lambda cell: cell.stage1.get("optimizer_steps"),
        NOTHING,
    ),
    (Text("optimizer steps of stage 2", "2단계 스텝"), _of_run("optimizer_steps"), _TUNED),
    (Text("clips a step of stage 1", "1단계 스텝당 영상"), _clips_a_step("stage1"), NOTHING),
    (Text("clips a step of stage 2", "2단계 스텝당 영상"), _clips_a_step("stage2"), NOTHING),
    (Text("frames", "프레임"), "vision.frames", NOTHING),
    (Text("frames a second", "초당 프레임"), "vision.frames_per_second", NOTHING),
    (Text("vision encoder", "비전 인코더"), "vision.model", NOTHING),
    (Text("encoder layer", "인코더 층"), "vision.layer", NOTHING),
    (Text("language model", "언어 모델"), "llm.model", NOTHING),
    (Text("quantisation", "양자화"), "llm.quantization", NOTHING),
    # A run that is older than the key multiplied in bf16.
    (
        Text("matrix products", "행렬곱"),
        lambda cell: cell.key("llm.matmul") or "bf16",
        NOTHING,
    ),
    (Text("rank of the adapters", "어댑터 랭크"), "llm.lora.r", NOTHING),
    (Text("prompt", "프롬프트"), "llm.prompt", NOTHING),
    (
        Text("longest target (tokens)", "목표 캡션의 최대 토큰"),
        "training.max_target_tokens",
        NOTHING,
    ),
    (_SCORED, lambda cell: cell.metrics.get("n_clips"), NOTHING),
    (
        Text("device", "장치"),
        _of_run("device"),
        Text(
            "rounding differs by device, and GPU-seconds cannot be compared",
            "장치마다 반올림이 다르고 GPU 시간을 비교할 수 없습니다",
        ),
    ),
    (Text("GPUs", "GPU 수"), _of_run("gpus"), NOTHING),
    (
        Text("commit of the code", "코드 커밋"),
        _of_run("git_commit"),
        Text("was the code changed between runs?", "학습 사이에 코드가 바뀌었습니까?"),
    ),
    (Text.same("torch"), _version("torch"), NOTHING),
    (Text.same("transformers"), _version("transformers"), NOTHING),
    (Text.same("peft"), _version("peft"), NOTHING),
    (Text.same("siglip-study"), _version("siglip-study"), NOTHING),
)


def differences(cells: list[CellResult], selection: StudySelection) -> list[Text]:
    """A sentence for each thing that should be equal between the compared cells and is not."""
    runs = report_runs(cells)
    # Two trainings that report a half each: what they share says nothing of where they differ.
    trainings = {
        name: [training for cell in own for training in cell.halves or (cell,)]
        for name, own in runs.items()
    }
    told = selection.projectors
    # Stage-2 epochs that each projector could choose from.
    offered = {
        frozenset(cell.epochs for cell in (told[name].cells if name in told else ()))
        for name in runs
    }
    axes = axes_of(selection)
    others = (key for key in axes if key not in {read for _, read, _ in EQUAL})
    said = []
    for what, read, why in (*EQUAL, *((Text.same(told_key(key)), key, NOTHING) for key in others)):
        if read in axes:
            why = _AXIS
        if why == _TUNED and len(offered) > 1:
            why = _OWN
        compared = runs if what == _SCORED else trainings
        values = {name: [_read(cell, read) for cell in own] for name, own in compared.items()}
        said += _unequal(what, values, why)
    seeds = {name: [", ".join(sorted(str(c.seed) for c in own))] for name, own in runs.items()}
    said += _unequal(
        Text("seeds", "시드"),
        seeds,
        Text("a seed fixes the order of the samples", "시드가 샘플의 순서를 정합니다"),
    )
    tuned = {name: [told[name].n_cells if name in told else None] for name in runs}
    said += _unequal(
        Text("number of tuned settings", "탐색한 설정 수"),
        tuned,
        Text(
            "more tries find a better one by chance", "많이 시도하면 우연히 더 좋은 것을 찾습니다"
        ),
    )
    return said


def _read(cell: CellResult, how: str | Callable[[CellResult], Any]) -> Any:
    return cell.key(how) if isinstance(how, str) else how(cell)


def sharing(cells: list[CellResult]) -> Text:
    """What the trainings share: a first stage, features and a language model are made once."""
    trained = [run for cell in cells for run in cell.halves or (cell,) if run.run]
    stages = {run.run.get("stage1_cell") for run in trained} - {None}
    stores = {VisionConfig.model_validate(run.key("vision")) for run in trained}
    llms = {str([run.key(f"llm.{k}") for k in _OF_LLM]) for run in trained}
    words = Text(
        "Shared by {n} trainings: first stages ({stages}), stores of features ({stores}), "
        "language models ({llms}).",
        "학습 {n}회가 함께 쓴 것: 1단계 {stages}개, 특징 저장소 {stores}개, 언어 모델 {llms}개.",
    )
    return words.fill(n=len(trained), stages=len(stages), stores=len(stores), llms=len(llms))


def _unequal(what: Text, found: dict[str, list[Any]], why: Text) -> list[Text]:
    """One sentence if the values differ between or within projectors; unknown ones are left out."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, values in found.items():
        known = tuple(sorted({str(value) for value in values if value is not None}))
        if known:
            groups.setdefault(known, []).append(label)
    if len({value for values in groups for value in values}) < 2:
        return []
    told = join("; ", [listed(v) + Text.same(f" ({', '.join(who)})") for v, who in groups.items()])
    because = Text(": {why}", " - {why}").fill(why=why) if why else NOTHING
    words = Text("Unequal {what}: {told}{why}", "{what}: 서로 다름. {told}{why}")
    words = words.fill(what=what, told=told, why=because)
    return [words if words.en.endswith("?") else sentence(words)]
