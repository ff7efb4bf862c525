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
    "sees_order": Text("sees order", "순서 인식"),
    "order.sees": Text("yes", "예"),
    "order.blind": Text("no", "아니요"),
    "order.undetermined": Text("unclear", "불분명"),
    "tokens": Text("tokens", "토큰"),
    "parameters": Text("parameters", "파라미터"),
    "chosen": Text("LR × epochs", "학습률 × 에폭"),
    "seed": Text("seed", "시드"),
    "collapsed": Text("collapsed", "붕괴"),
    "cost": Text("cost of a run", "학습 비용"),
}

ANSWER: dict[str, Text] = {
    "basis.clips only": Text(
        "Intervals carry the variance of clips only.", "구간에는 영상에 따른 변동만 들어 있습니다."
    ),
    "basis.clips and seeds": Text(
        "Intervals carry the variance of clips and seeds.",
        "구간에는 영상과 시드에 따른 변동이 들어 있습니다.",
    ),
    "answer.believe": Text("Can you believe it?", "믿을 수 있습니까?"),
    "answer.good": Text("in order", "이상 없음"),
    "answer.bad": Text("take care", "주의"),
    "answer.table": Text("A line for each projector", "프로젝터별 한 줄 요약"),
    "answer.cautions": Text("{n} cautions", "주의할 점 {n}가지"),
    "answer.verdicts": Text(
        "The answer at length, and the check of captions", "자세한 결론과 캡션 검사 결과"
    ),
}

EVIDENCE: dict[str, Text] = {
    "claims.better": Text("Better", "더 나은 쪽"),
    "claims.clip": Text("Clip", "영상"),
    "claims.detectable": Text(
        "Smallest difference found with 80 % power", "검정력 80 %로 찾는 최소 차이"
    ),
    "claims.difference": Text("Difference in margin", "마진 차이"),
    "claims.interaction": Text("Interaction", "상호작용"),
    "claims.joint": Text(
        "Joint intervals hold for all pairs together: one that excludes 0 is a claim.",
        "동시 구간은 모든 쌍에 함께 성립하며, 0을 포함하지 않으면 주장할 수 있습니다.",
    ),
    "claims.joint_interval": Text("Joint interval", "동시 구간"),
    "claims.lead": Text(
        "Whether two projectors differ is read here, and not by whether their own intervals "
        "overlap.",
        "두 프로젝터가 다른지는 각자의 구간이 겹치는지가 아니라 여기에서 읽습니다.",
    ),
    "claims.lead_metric": Text("margin M, which ranks", "순위를 정하는 마진 M"),
    "claims.measure": Text("Measure", "지표"),
    "claims.open": Text("not told apart", "가려지지 않음"),
    "claims.p_alone": Text("p alone", "보정 전 p"),
    "claims.pairs": Text("Pairs", "프로젝터 쌍"),
    "claims.residual": Text("Residual", "잔차"),
    "claims.run_alone": Text("this run alone", "이 학습만"),
    "claims.runs": Text("Run by run", "학습별"),
    "claims.sd": Text("SD between projectors", "프로젝터 사이 표준편차"),
    "claims.sentences": Text("Sentences a caption", "캡션당 문장"),
    "claims.shrunken": Text("Corrected for luck", "운을 뺀 차이"),
    "claims.undo": Text("Seed SD that undoes it", "뒤집히는 시드 표준편차"),
    "claims.variance": Text("Where the variance comes from", "분산의 출처"),
    "claims.variance_lead": Text(
        "Of each measure: what differs between projectors, between seeds, between clips for all "
        "alike, between clips for one projector (interaction), and what another seed changes "
        "clip by clip (residual).",
        "지표마다 프로젝터 사이, 시드 사이, 모두에게 공통인 영상 사이, 프로젝터마다 다른 영상 "
        "사이(상호작용), 그리고 시드를 바꿀 때 영상마다 달라지는 부분(잔차)입니다.",
    ),
    "claims.weak": Text(
        "A difference claimed with little power is too large on average, since a smaller one "
        "would not have been claimed; corrected for luck, it is the true difference of which "
        "such claims are the mean.",
        "검정력이 낮을 때 주장된 차이는 평균적으로 실제보다 큽니다. 더 작았다면 주장되지 않았을 "
        "것이기 때문입니다. 운을 뺀 차이는 그런 주장들의 평균이 되는 참 차이입니다.",
    ),
    "controls.above": Text("Margin above it", "기준선과의 차이"),
    "controls.bar": Text("a bar, no test", "기준선"),
    "controls.copying": Text(
        "Against copying the nearest training caption", "가장 비슷한 학습 캡션을 복사하는 것과 비교"
    ),
    "controls.draws": Text("mean of {n} draws", "{n}번 평균"),
    "controls.expected": Text("What it must show, and the check", "기대와 검사 결과"),
    "controls.lead": Text(
        "Each control must come out one way if the scores mean what they say.",
        "점수를 믿을 수 있다면 대조군마다 정해진 결과가 나와야 합니다.",
    ),
    "controls.mean_d": Text("Mean margin D", "평균 마진 D"),
    "controls.met": Text("as it must", "기대대로"),
    "controls.not_met": Text("NOT as it must", "기대와 다름"),
    "controls.outcome": Text("Outcome", "결과"),
    "controls.share_swapped": Text("Swapped", "바꾼 비율"),
    "controls.swapped": Text(
        "How far the score falls when captions are wrong", "캡션이 틀리면 점수가 얼마나 떨어지는가"
    ),
    "controls.swapped_lead": Text(
        "Human captions, a share of them swapped between clips. In brackets the middle 95 % of "
        "random choices of which are swapped.",
        "사람 캡션의 일부를 영상끼리 바꾼 것입니다. 괄호는 바꿀 캡션을 무작위로 고를 때 가운데 "
        "95 %입니다.",
    ),
    "controls.untrained": Text(
        "This study trained none: that a model which cannot see would be refused here is not "
        "shown.",
        "이 연구는 대조군을 학습하지 않았습니다. 보지 못하는 모델이 걸러지는지는 확인되지 "
        "않았습니다.",
    ),
    "evidence.claims": Text(
        "Every pair, every run, where the variance comes from", "모든 쌍, 모든 학습, 분산의 출처"
    ),
    "evidence.controls": Text("Controls in figures", "대조군 수치"),
    "evidence.facts": Text("Facts that captions told right (demo)", "캡션이 맞힌 사실(데모)"),
    "evidence.measures": Text(
        "Other measures, and what one video or run decides",
        "다른 지표, 그리고 영상이나 학습 하나의 영향",
    ),
    "evidence.published": Text("The published study, as published", "발표된 연구의 수치"),
    "evidence.sight": Text(
        "Beyond the category, and what the video is worth", "범주 이상을 보는가, 영상이 쓰이는가"
    ),
    "evidence.grain": Text("What each keeps, coarse to fine", "무엇을 남기는가: 범주와 세부"),
    "facts.attribute": Text("Fact", "사실"),
    "facts.caption": Text(
        "Means of the report seeds; the interval reaches from the lowest lower to the highest "
        "upper 95 % bound of those seeds.",
        "보고용 시드의 평균이며, 구간은 시드별 95 % 하한 가운데 가장 낮은 값부터 상한 가운데 "
        "가장 높은 값까지입니다.",
    ),
    "facts.lead": Text(
        "The demo's world is drawn by a program, so its facts are known. An unstated fact counts "
        "as wrong.",
        "데모의 세계는 프로그램이 그리므로 사실을 알고 있습니다. 말하지 않은 사실은 틀린 것으로 "
        "셉니다.",
    ),
    "grain.all": Text("All clips", "모든 영상"),
    "grain.attributes": Text("Colour, size", "색, 크기"),
    "grain.count": Text("Count", "수"),
    "grain.detail": Text("Is detail lost?", "세부를 잃습니까?"),
    "grain.facts": Text(
        "Facts that captions tell right (mean κ), the coarse first. Worse at all of them alike is "
        "no loss of detail: tested is each finer grain less the coarse, against the best of those "
        "that keep the most tokens.",
        "캡션이 맞힌 사실(평균 κ)이며, 첫 열이 범주와 장면입니다. 모두를 고르게 덜 맞히는 것은 "
        "세부를 잃은 것이 아닙니다. 세부마다 첫 열을 뺀 값을, 토큰을 가장 많이 남기는 것 가운데 "
        "가장 좋은 것과 비교합니다.",
    ),
    "grain.margins": Text(
        "M as a share of the human captions', over all clips and within the category. Worse at "
        "both alike is no loss of detail: tested is the second less the first, against the best "
        "of those that keep the most tokens.",
        "사람 캡션의 M에 대한 비율이며, 모든 영상과 같은 범주 안의 값입니다. 둘을 고르게 덜 맞히는 "
        "것은 세부를 잃은 것이 아닙니다. 둘째에서 첫째를 뺀 값을, 토큰을 가장 많이 남기는 것 "
        "가운데 가장 좋은 것과 비교합니다.",
    ),
    "grain.order": Text("Motion, camera", "움직임, 카메라"),
    "grain.scene": Text("Thing, place, weather", "사물, 장소, 날씨"),
    "grain.tokens": Text("Tokens a clip", "영상당 토큰"),
    "grain.within": Text("Within the category", "같은 범주 안"),
    "measures.ahead": Text("Same one ahead throughout", "앞선 쪽이 늘 같음"),
    "measures.carry": Text("Runs that carry the claim", "주장을 떠받치는 학습"),
    "measures.change": Text("Largest change, and without which video", "가장 큰 변화와 뺀 영상"),
    "measures.claimed": Text("Claimed with all", "전체로 주장됨"),
    "measures.flips": Text("Videos that turn the verdict", "판정을 뒤집는 영상"),
    "measures.influence": Text(
        "Does one source video decide, or one run?",
        "원본 영상 하나나 학습 하나가 결론을 좌우합니까?",
    ),
    "measures.lead": Text(
        "Margin M alone ranks; these are orders of means, each without a test.",
        "순위는 마진 M만으로 정합니다. 아래는 검정 없이 평균을 늘어놓은 순서입니다.",
    ),
    "measures.missing": Text(
        "Not compared, as some run lacks it", "일부 학습에 없어 비교하지 않은 지표"
    ),
    "measures.p_change": Text("Largest change of Holm's p", "Holm p의 가장 큰 변화"),
    "measures.pair": Text("Pair", "쌍"),
    "measures.place": Text("place {n}", "{n}위"),
    "measures.range": Text("Difference, least and greatest", "차이의 최소, 최대"),
    "measures.run_change": Text("Largest change, and without which run", "가장 큰 변화와 뺀 학습"),
    "measures.same": Text("First as by M", "1위가 M과 같음"),
    "measures.tau": Text("Agreement with M's order (Kendall τ)", "M 순서와 일치(켄달 τ)"),
    "published.claimed": Text("as claimed", "발표된 값"),
    "published.distinct": Text("Distinct strings a clip", "영상당 서로 다른 문자열"),
    "published.here": Text("measured here", "이 연구에서 측정"),
    "published.lead": Text(
        "As published, not re-measured here.", "발표된 그대로이며 다시 재지 않았습니다."
    ),
    "published.run": Text("Run", "학습"),
    "published.stopped": Text("stopped before its last epoch", "마지막 에폭 전에 중단"),
    "published.wall": Text("Time", "시간"),
    "published.warning": Text(
        "This study's figures by the same recipes stand below. Clips, references, seeds and "
        "weights differ, so a row above and a row below must not be compared. None of these "
        "figures ranks anything.",
        "같은 방법으로 구한 이 연구의 수치가 아래에 있습니다. 영상, 기준 캡션, 시드, 가중치가 "
        "다르므로 위아래 행을 비교하면 안 됩니다. 어떤 수치도 순위에 쓰이지 않습니다.",
    ),
    "sight.auc": Text("AUC within", "범주 안 AUC"),
    "sight.blind": Text(
        "What a model says when it sees nothing", "아무것도 보지 못할 때 모델이 하는 말"
    ),
    "sight.captions_of": Text("Captions of", "캡션"),
    "sight.category": Text("Is more seen than the category?", "범주 이상을 봅니까?"),
    "sight.chance": Text("Chance: M 0, AUC 0.5, R@1 {r1}.", "우연 수준: M 0, AUC 0.5, R@1 {r1}."),
    "sight.loss": Text("Does the video matter to the loss?", "영상이 손실에 영향을 줍니까?"),
    "sight.m": Text("M within", "범주 안 M"),
    "sight.matched": Text("Loss with its video", "제 영상의 손실"),
    "sight.mean_video": Text("The mean training video", "학습 영상의 평균"),
    "sight.negatives": Text(
        "Each caption against other clips of its own category only.",
        "캡션마다 같은 범주의 다른 영상하고만 비교합니다.",
    ),
    "sight.no_video": Text("No video", "영상 없음"),
    "sight.r1": Text("R@1 within", "범주 안 R@1"),
    "sight.run": Text("Run", "학습"),
}

RUNS: dict[str, Text] = {
    "cells.cell": Text("Run", "학습"),
    "cells.cut": Text("Cut off", "잘림"),
    "cells.epochs": Text("Epochs", "에폭"),
    "cells.loss": Text("Loss", "손실"),
    "cells.m": Text("Margin M", "마진 M"),
    "cells.note": Text("Note", "비고"),
    "cells.rate": Text("Learning rate", "학습률"),
    "cells.role": Text("What it is", "종류"),
    "cells.siglip": Text("SigLIP cosine", "SigLIP 코사인"),
    "cells.split": Text("Clips", "영상"),
    "cells.steps": Text("Steps", "스텝"),
    "diagnosis.attention": Text("Attention entropy", "어텐션 엔트로피"),
    "diagnosis.cosine": Text("Cosine between videos", "영상 사이 코사인"),
    "diagnosis.frame": Text("One foreign frame, nats", "다른 영상의 프레임 하나(nat)"),
    "diagnosis.lead": Text(
        "What each run made of the same {n} clips, before training and at its end. The sentence "
        "names the first link that broke, from the encoder to the captions; it is read off these "
        "figures by fixed rules and is no test.",
        "학습마다 같은 영상 {n}개를 학습 전과 끝에 어떻게 처리했는지입니다. 문장은 인코더에서 "
        "캡션까지 처음 끊어진 고리를 가리킵니다. 정해진 규칙으로 수치를 읽은 것이며 검정이 "
        "아닙니다.",
    ),
    "diagnosis.lora": Text("LoRA's share of gradient", "LoRA의 기울기 비율"),
    "diagnosis.neighbours": Text("Neighbours kept", "유지된 이웃"),
    "diagnosis.rank": Text("Rank of clips", "영상 랭크"),
    "diagnosis.run": Text("Run", "학습"),
    "ledger.computed": Text("Computed", "계산량"),
    "ledger.cut": Text("Captions cut off", "잘린 캡션"),
    "ledger.equal": Text("Equal", "같음"),
    "ledger.equal_what": Text(
        "samples, steps, tuned settings, seeds, frames, token limits, device, code and versions",
        "샘플, 스텝, 탐색한 설정, 시드, 프레임, 토큰 한도, 장치, 코드, 버전",
    ),
    "ledger.lead": Text(
        "What one reported run of each projector was given and took: both stages, the mean of "
        "its seeds.",
        "프로젝터마다 보고용 학습 하나가 받고 쓴 것입니다. 두 단계를 합한 시드 평균입니다.",
    ),
    "ledger.lora": Text("of LoRA", "LoRA"),
    "ledger.note": Text(
        "Tokens and parameters belong to a projector and may differ: this ranks projectors as "
        "configured. That an architecture as such is better may be claimed only from a "
        "token-matched study (config/token_matched.yaml). Computed: 2 FLOP a weight and token "
        "forward, as much again for each gradient; validation, padding and recomputed layers are "
        "left out.",
        "토큰과 파라미터는 프로젝터의 일부여서 다를 수 있습니다. 이 순위는 설정한 그대로의 "
        "프로젝터를 비교합니다. 구조 자체가 낫다는 주장은 토큰 수를 맞춘 "
        "연구(config/token_matched.yaml)에서만 할 수 있습니다. 계산량은 순방향에서 가중치와 "
        "토큰마다 2 FLOP, 기울기마다 같은 양을 더한 값이며 검증, 패딩, 다시 계산한 층은 뺐습니다.",
    ),
    "ledger.people": Text("people {n}", "사람 {n}"),
    "ledger.samples": Text("Samples", "샘플"),
    "ledger.steps": Text("optimizer steps", "스텝"),
    "ledger.targets": Text("training captions cut off", "잘린 학습 캡션"),
    "ledger.tuned": Text("Settings tuned", "탐색한 설정"),
    "ledger.unequal": Text("Not equal between the compared runs", "비교한 학습 사이에 다른 점"),
    "runs.all": Text("All", "전체"),
    "runs.cells": Text("All {n} runs in figures", "모든 학습 {n}개의 수치"),
    "runs.collapsed": Text("Why a run collapsed", "학습이 붕괴한 까닭"),
    "runs.costs": Text("What all runs cost together", "모든 학습의 비용"),
    "runs.count": Text("Runs", "학습 수"),
    "runs.device": Text("Device", "장치"),
    "runs.diagnosis": Text(
        "Where the video was lost, in figures ({n} runs)",
        "영상을 어디서 잃었는지 수치로 보기(학습 {n}개)",
    ),
    "runs.gpu": Text("GPU time", "GPU 시간"),
    "runs.ledger": Text(
        "Was it fair? What each projector was given", "공정했습니까? 프로젝터마다 주어진 조건"
    ),
    "runs.no_collapse": Text("No run collapsed.", "붕괴한 학습이 없습니다."),
    "runs.peak": Text("Peak GPU memory", "최대 GPU 메모리"),
    "runs.tuning": Text("Every tuning setting", "모든 탐색 설정"),
    "runs.wall": Text("Time by the clock", "실제 시간"),
    "tuning.chosen": Text("chosen", "선택됨"),
    "tuning.corner": Text("epochs / learning rate", "에폭 / 학습률"),
    "tuning.corner_settings": Text("settings / learning rate", "설정 / 학습률"),
    "tuning.crossed": Text(
        "Mean margin M on each half. The best setting of a half (framed) is trained afresh with "
        "new seeds and reports the other half; tuning runs are never reported. Settings that "
        "failed the check are passed over where another passed.",
        "절반마다의 평균 마진 M입니다. 한 절반의 가장 좋은 설정(테두리)을 새 시드로 다시 학습해 "
        "다른 절반을 보고하며 탐색 학습은 보고하지 않습니다. 통과한 설정이 있으면 검사에 실패한 "
        "설정은 고르지 않습니다.",
    ),
    "tuning.lead": Text(
        "Mean margin M on the selection clips. The best setting (framed) is trained afresh with "
        "new seeds; tuning runs are never reported. Settings that failed the check are passed "
        "over where another passed.",
        "선택용 영상의 평균 마진 M입니다. 가장 좋은 설정(테두리)을 새 시드로 다시 학습하며 탐색 "
        "학습은 보고하지 않습니다. 통과한 설정이 있으면 검사에 실패한 설정은 고르지 않습니다.",
    ),
    "tuning.none": Text("none could be chosen", "고를 수 있는 것이 없음"),
}

REPRODUCE: dict[str, Text] = {
    "metrics.chance": Text("Chance", "우연"),
    "metrics.lead": Text(
        "Means of the report seeds, between chance and human captions, each with its own "
        "interval. Only margin M ranks; no other row was tested.",
        "보고용 시드의 평균과 구간을 우연 수준과 사람 캡션 사이에 놓았습니다. 순위는 마진 "
        "M만으로 정하며 다른 행은 검정하지 않았습니다.",
    ),
    "metrics.missing": Text("not computed", "계산하지 않음"),
    "reproduce.cite": Text("To cite the software:", "소프트웨어 인용:"),
    "reproduce.clip": Text("Clip", "영상"),
    "reproduce.config": Text("Config", "설정"),
    "reproduce.copy": Text("Copy", "복사"),
    "reproduce.download": Text("Download config.yaml", "config.yaml 내려받기"),
    "reproduce.file": Text("File", "파일"),
    "reproduce.first": Text(
        "The first 500 are listed; all are in tables/rejected.csv.",
        "처음 500개만 표시합니다. 전체는 tables/rejected.csv에 있습니다.",
    ),
    "reproduce.lead": Text(
        "These commands make the study again from its config. Results on the same device are the "
        "same; elsewhere they differ by rounding.",
        "아래 명령은 설정 파일로 이 연구를 다시 합니다. 같은 장치에서는 결과가 같고, 다른 "
        "장치에서는 반올림만큼 다릅니다.",
    ),
    "reproduce.metrics": Text("Every metric of every projector", "모든 프로젝터의 모든 지표"),
    "reproduce.page_commit": Text("commit of this page", "이 보고서의 커밋"),
    "reproduce.rejected": Text("Clips left out ({n})", "제외된 영상({n}개)"),
    "reproduce.run_commit": Text("commit of the training", "학습 커밋"),
    "reproduce.source_hash": Text("hash of the source", "소스 코드 해시"),
    "reproduce.date": Text("date", "날짜"),
    "reproduce.versions": Text("Versions", "버전"),
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
