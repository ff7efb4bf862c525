"""Plain labels of the page, both languages side by side; templates call ``label`` as ``say``."""

from __future__ import annotations

from typing import Any

from siglip_study.report.language import Text
from siglip_study.report.wording import charts, clips

#: Of all parts of the page together; a part with many has a file and a table of its own here.
FRAME: dict[str, Text] = {
    "skip": Text("Skip to the answer", "결론으로 바로 가기"),
    "sections": Text("Parts of the report", "보고서 차례"),
    "part.answer": Text("Answer", "결론"),
    "part.clips": Text("Clips", "영상"),
    "part.evidence": Text("Evidence", "근거"),
    "part.runs": Text("Runs", "학습"),
    "part.reproduce": Text("Reproduce", "재현"),
    "switch.language": Text("한국어", "English"),
    "switch.dark": Text("Dark", "어둡게"),
    "switch.light": Text("Light", "밝게"),
    "footer": Text(
        "One file, no network: everything shown here is inside it. The figures are also in "
        "tables/ (CSV, Parquet, LaTeX) beside it.",
        "파일 하나에 모든 내용이 들어 있으며 네트워크를 쓰지 않습니다. 같은 수치가 옆의 tables/ "
        "폴더에도 있습니다(CSV, Parquet, LaTeX).",
    ),
    "glossary": Text("Glossary", "용어 설명"),
    "projector": Text("projector", "프로젝터"),
    "why": Text("why", "이유"),
    "yes": Text("yes", "예"),
    "no": Text("no", "아니요"),
    "not_shown": Text("not shown", "확인 안 됨"),
    "place": Text("place", "순위"),
    "margin": Text("margin", "마진"),
    "of_people": Text("of people", "사람 대비"),
    "copying": Text("beats copying", "복사보다 나음"),
    "distinct": Text("distinct captions", "서로 다른 캡션"),
    "sees_order": Text("sees order", "순서를 봄"),
    "order.sees": Text("yes", "예"),
    "order.blind": Text("no", "아니요"),
    "order.undetermined": Text("unclear", "불분명"),
    "tokens": Text("tokens", "토큰"),
    "parameters": Text("parameters", "파라미터"),
    "chosen": Text("LR × epochs", "학습률 × 에폭"),
    "cost": Text("cost of a run", "학습 비용"),
}

ANSWER: dict[str, Text] = {
    "answer.believe": Text("Can you believe it?", "믿을 수 있습니까?"),
    "answer.chart": Text(
        "Margin of every projector with its interval; the table below has the figures",
        "프로젝터별 마진과 구간. 수치는 아래 표에 있습니다",
    ),
    "answer.good": Text("in order", "이상 없음"),
    "answer.bad": Text("take care", "주의"),
    "answer.table": Text("A line for each projector", "프로젝터별 한 줄 요약"),
    "answer.cautions": Text("{n} cautions", "주의할 점 {n}가지"),
    "answer.verdicts": Text(
        "The answer at length, and the check of captions",
        "결론 자세히 보기와 캡션 검사",
    ),
}

EVIDENCE: dict[str, Text] = {
    "evidence.controls": Text("Controls in figures", "대조군 수치"),
    "evidence.claims": Text("Pairs, runs, variance", "프로젝터 쌍, 학습, 분산"),
    "evidence.measures": Text("Other measures", "다른 지표"),
    "evidence.facts": Text("Facts of the demo", "데모의 사실"),
    "evidence.published": Text("The published study", "발표된 연구"),
}

RUNS: dict[str, Text] = {
    "runs.grids": Text("Every run, and what tuning passed over", "모든 학습과 선택되지 않은 설정"),
    "runs.diagnosis": Text("Why a projector collapsed", "프로젝터가 붕괴한 까닭"),
}

REPRODUCE: dict[str, Text] = {
    "reproduce.provenance": Text("Versions, cost and config", "버전, 비용, 설정"),
    "reproduce.ledger": Text("What each projector was given", "프로젝터마다 주어진 조건"),
    "reproduce.metrics": Text("Every metric", "모든 지표"),
    "reproduce.rejected": Text("Rejected clips ({n})", "제외된 영상({n}개)"),
}

LABELS: dict[str, Text] = {
    **FRAME,
    **ANSWER,
    **EVIDENCE,
    **RUNS,
    **REPRODUCE,
    **charts.LABELS,
    **clips.LABELS,
}


def label(key: str, **figures: Any) -> Text:
    """The label ``key``, filled in.

    Raises:
        KeyError: there is none of this name.
    """
    found = LABELS[key]
    return found.fill(**figures) if figures else found
