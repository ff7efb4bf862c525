"""Metrics in words: short names, and the Korean of what the code says of them in English."""

from __future__ import annotations

import re

from siglip_study.metrics import METRICS
from siglip_study.report.language import Text

#: Names of the measures that stand in figures and sentences.
NAMES: dict[str, Text] = {
    "standardised_margin": Text("margin M", "마진 M"),
    "grounding_margin": Text("margin D", "마진 D"),
    "siglip_cosine": Text("SigLIP cosine", "SigLIP 코사인"),
    "auc": Text.same("AUC"),
    "bits": Text("bits", "비트"),
    "retrieval_r1": Text.same("R@1"),
    "meteor_gain": Text("METEOR gain", "METEOR 이득"),
    "cider_gain": Text("CIDEr gain", "CIDEr 이득"),
    "bertscore_f1": Text.same("BERTScore"),
    "kappa": Text("facts κ", "사실 κ"),
    "effective_captions": Text("distinct captions", "서로 다른 캡션"),
    "top_cluster_share": Text("largest group alike", "가장 큰 동일 무리"),
}

#: Metric → its definition in Korean; in English it is the metric's own description.
DEFINITIONS: dict[str, str] = {
    "siglip_cosine": "캡션 조각과 영상 프레임 평균의 코사인입니다.",
    "siglip_sum": "조각별 코사인의 합입니다. 짧은 캡션이 잃는 것을 보여 줍니다.",
    "siglip_sigmoid": "채점 모델이 둘을 한 쌍으로 보는 확률입니다(점검용).",
    "siglip_published": "발표된 연구의 점수인 시그모이드 평균입니다(점검용).",
    "grounding_margin": "캡션 평균과 영상 평균으로 설명되는 값을 넘는, 제 영상과의 코사인입니다.",
    "standardised_margin": "마진 D를 다른 영상과의 점수의 표준편차로 나눈 값입니다.",
    "grounding_margin_within": "같은 범주의 영상하고만 비교한 마진 D입니다.",
    "standardised_margin_within": "같은 범주의 영상하고만 비교한 마진 M입니다.",
    "auc": "캡션이 제 영상보다 덜 맞는 다른 영상의 비율입니다.",
    "auc_within": "같은 범주의 영상 가운데 그러한 비율입니다.",
    "bits": "어느 영상의 캡션인지 캡션이 알려 주는 정보량입니다.",
    "retrieval_r1": "제 영상이 1위인 캡션의 비율입니다. 동점이면 나누어 셉니다.",
    "retrieval_r1_within": "같은 범주의 영상 가운데 제 영상이 1위인 캡션의 비율입니다.",
    "retrieval_r5": "제 영상이 5위 안에 드는 캡션의 비율입니다.",
    "retrieval_mrr": "제 영상 순위의 역수를 평균한 값입니다.",
    "meteor": "내용 형태소로 계산한 METEOR입니다(α .9, β 3, γ .5, 완전 일치).",
    "meteor_all": "모든 형태소로 계산한 METEOR입니다. 조사 때문에 0까지 내려가지 않습니다.",
    "meteor_characters": "글자 단위 METEOR입니다.",
    "meteor_words": "발표된 방식대로 띄어쓰기 단위로 계산한 METEOR입니다.",
    "meteor_mismatched": "다른 영상의 기준 캡션과 비교한 METEOR입니다.",
    "meteor_gain": "제 기준 캡션과의 METEOR에서 다른 기준 캡션과의 METEOR를 뺀 값입니다.",
    "cider": "학습 데이터의 문서 빈도를 쓰고 길이 항을 뺀 CIDEr입니다.",
    "cider_gain": "제 기준 캡션과의 CIDEr에서 다른 기준 캡션과의 CIDEr를 뺀 값입니다.",
    "bertscore_f1": "BERTScore (F − b) / (1 − b)입니다. b는 어긋난 학습 캡션 쌍의 값입니다.",
    "effective_captions": "거의 같은 캡션을 묶은 무리의 exp(엔트로피)를 캡션 수로 나눈 값입니다.",
    "top_cluster_share": "거의 같은 캡션의 가장 큰 무리에 든 캡션의 비율입니다.",
    "distinct_ratio": "발표된 방식대로 서로 다른 문자열 수를 캡션 수로 나눈 값입니다.",
    "distinct_1": "모든 캡션에서 서로 다른 형태소의 비율입니다.",
    "distinct_2": "모든 캡션에서 서로 다른 형태소 쌍의 비율입니다.",
    "self_bleu": "다른 캡션들을 기준으로 삼은 캡션별 BLEU-4입니다.",
    "vendi": "기준 캡션의 중심에서 본 캡션 임베딩의 Vendi 점수입니다. 많아야 캡션 수입니다.",
    "novelty": "학습 캡션과 글자 그대로 같지 않은 캡션의 비율입니다.",
    "repetition_4": "캡션의 4-gram 가운데 앞에 나온 것이 되풀이된 비율입니다.",
    "length_ratio": "캡션의 토큰 수를 기준 캡션의 토큰 수로 나눈 값입니다.",
    "sentences": "캡션의 문장 수입니다. 문장이 늘면 코사인으로 잰 D가 줄어듭니다.",
    "truncated_share": "토큰 한도에 걸린 캡션의 비율입니다.",
}

#: Kinds of tokens, why a metric has no value, why a clip was left out: as the files name them.
_KOREAN = {
    "the model's own": "모델의 토큰",
    "content morphemes": "내용 형태소",
    "morphemes": "형태소",
    "characters": "글자",
    "lower case": "소문자",
    "white space": "띄어쓰기",
    "words without punctuation": "문장 부호를 뺀 단어",
    "words": "단어",
    "no model is configured": "설정된 모델이 없습니다",
    "no scorer values were given": "채점 모델의 값이 없습니다",
    "no caption embeddings were given": "캡션 임베딩이 없습니다",
    "no temperature was fitted on selection references": "선택용 캡션에 맞춘 온도가 없습니다",
    "the captions were not generated under a token budget": "토큰 한도를 두고 만든 캡션이 아닙니다",
    "the captions are the references themselves": "캡션이 기준 캡션 자체입니다",
    "there is no other clip to compare with": "비교할 다른 영상이 없습니다",
    "the clips have no categories": "영상에 범주가 없습니다",
    "broken label": "깨진 라벨",
    "duplicate id": "중복 ID",
    "copy": "같은 파일",
    "no caption": "캡션 없음",
    "too short": "너무 짧음",
    "unreadable": "읽을 수 없음",
    "the file has zero bytes": "파일이 비어 있음",
    "no frame can be decoded": "풀리는 프레임이 없음",
    "no clip has a value": "값이 있는 영상이 없습니다",
    "document frequencies need two train clips": "문서 빈도에는 학습 영상이 둘 이상 필요합니다",
}
_KNOWN = re.compile(rf"\b({'|'.join(sorted(_KOREAN, key=len, reverse=True))})\b")


def definition(metric: str, english: str) -> Text:
    """What a metric is; ``english`` as the tables have it, alone where the metric is not ours."""
    if metric not in METRICS or metric not in DEFINITIONS:
        return Text.same(english)
    return Text(english, DEFINITIONS[metric])


def as_written(english: str) -> Text:
    """A kind of token or a reason, as a file has it, with the Korean of what is known of it."""
    return Text(english, _KNOWN.sub(lambda found: _KOREAN[found.group()], english))
