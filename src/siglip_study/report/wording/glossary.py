"""The one glossary: what each special term of the page means, in both languages."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from siglip_study.report.language import Text


@dataclass(frozen=True)
class Term:
    """A special term and what it means, in one or two sentences."""

    name: Text
    meaning: Text


TERMS: dict[str, Term] = {
    "margin": Term(
        Text("margin", "마진"),
        Text(
            "How much better captions fit their own clip than other clips, by the scorer's "
            "similarity (D), in units of its spread (M). A caption that says the same of every "
            "clip gets 0. This alone ranks.",
            "캡션이 다른 영상보다 제 영상에 얼마나 더 잘 맞는지를 채점 모델의 유사도(D)로 재고, "
            "그 흩어짐을 단위로 나타낸 값(M)입니다. 모든 영상에 같은 캡션을 붙이면 0입니다. 순위는 "
            "이 값만으로 정합니다.",
        ),
    ),
    "place": Term(
        Text("place", "순위"),
        Text(
            "Best and worst place that the data allow. Where two projectors' places overlap, "
            "their order is not known.",
            "데이터로 보아 가능한 가장 높은 순위와 가장 낮은 순위입니다. 두 프로젝터의 범위가 "
            "겹치면 둘의 순서는 알 수 없습니다.",
        ),
    ),
    "of_people": Term(
        Text("of people", "사람 대비"),
        Text(
            "The margin as a share of that of people's own captions of the same clips. The score "
            "is blind to some faults, so 100 % does not mean as good as people.",
            "같은 영상에 사람이 붙인 캡션의 마진을 100 %로 본 값입니다. 점수가 보지 못하는 "
            "잘못도 있으므로 100 %라고 해서 사람만큼 좋다는 뜻은 아닙니다.",
        ),
    ),
    "copying": Term(
        Text("beats copying", "복사보다 나음"),
        Text(
            "Shown to do better than handing out the caption of the nearest training clip, which "
            "needs no captioning model at all (Holm, one-sided).",
            "가장 비슷한 학습 영상의 캡션을 그대로 내놓는 것보다 낫다고 확인되었는지를 뜻합니다"
            "(단측 검정, Holm 보정). 이 방법에는 캡션 모델이 필요 없습니다.",
        ),
    ),
    "distinct": Term(
        Text("distinct captions", "서로 다른 캡션"),
        Text(
            "How many truly different captions there are, near-copies counted together, as a share "
            "of the clips. Low: the model says the same of everything.",
            "거의 같은 캡션을 하나로 세었을 때 서로 다른 캡션이 영상 수의 몇 %인지입니다. 낮으면 "
            "모델이 무엇을 보든 같은 말을 합니다.",
        ),
    ),
    "sees_order": Term(
        Text("sees order", "순서 인식"),
        Text(
            "Whether the model's loss rises when frames are shown backwards. The scorer averages "
            "frames and cannot see their order itself.",
            "프레임을 거꾸로 보여 주었을 때 모델의 손실이 커지는지를 뜻합니다. 채점 모델은 "
            "프레임을 평균하므로 순서를 보지 못합니다.",
        ),
    ),
    "interval": Term(
        Text("interval", "구간"),
        Text(
            "Range that holds the true value in 95 of 100 such studies (or at the config's level), "
            "over other clips and other seeds.",
            "영상과 시드를 바꾸어 같은 연구를 100번 할 때 95번(또는 설정한 수준만큼)은 참값이 "
            "들어가는 범위입니다.",
        ),
    ),
    "tokens": Term(
        Text("tokens", "토큰"),
        Text(
            "Visual tokens that the projector hands to the language model for one video.",
            "영상 하나마다 프로젝터가 언어 모델에 넘기는 시각 토큰의 수입니다.",
        ),
    ),
    "parameters": Term(
        Text("parameters", "파라미터"),
        Text("Weights of the projector, without LoRA.", "LoRA를 뺀 프로젝터의 가중치 수입니다."),
    ),
    "chosen": Term(
        Text("LR × epochs", "학습률 × 에폭"),
        Text(
            "Learning rate and epochs of stage 2 that were best on the selection clips. The chosen "
            "setting was then trained afresh with new seeds.",
            "선택용 영상에서 가장 좋았던 2단계 학습률과 에폭 수입니다. 그 설정을 새 시드로 다시 "
            "학습해 보고합니다.",
        ),
    ),
    "cost": Term(
        Text("cost", "비용"),
        Text(
            "Of one run, both stages: GPU time, or time by the clock where there was no GPU.",
            "학습 한 번의 두 단계를 합한 GPU 시간입니다. GPU가 없으면 실제 걸린 시간입니다.",
        ),
    ),
    "gate": Term(
        Text("check of captions", "캡션 검사"),
        Text(
            "Before it is ranked, a projector must show that its captions are not nearly all the "
            "same and that they fit their own clips. Only those that do are ranked.",
            "순위에 들기 전에 프로젝터는 캡션이 서로 거의 같지 않고 제 영상에 맞는다는 것을 보여야 "
            "합니다. 통과한 프로젝터만 순위를 매깁니다.",
        ),
    ),
    "grounded": Term(
        Text("grounded", "영상에 근거함"),
        Text(
            "Captions that fit their own clip better than other clips, also within a category "
            "where that can be asked.",
            "캡션이 다른 영상보다 제 영상에 더 잘 맞는 상태입니다. 가능하면 같은 범주 안에서도 "
            "확인합니다.",
        ),
    ),
    "collapsed": Term(
        Text("collapsed", "붕괴"),
        Text(
            "Nearly the same caption for every clip, with no tie to the clip.",
            "모든 영상에 거의 같은 캡션을 붙이고 캡션이 영상과 무관한 상태입니다.",
        ),
    ),
    "control": Term(
        Text("control", "대조군"),
        Text(
            "A captioner of which the right outcome is known beforehand. Where one comes out "
            "otherwise, the scores do not mean what they say.",
            "어떤 결과가 나와야 하는지 미리 아는 캡션 생성기입니다. 결과가 다르면 점수를 믿을 수 "
            "없습니다.",
        ),
    ),
    "seed": Term(
        Text("seed", "시드"),
        Text(
            "One training from another random start. The seeds reported here chose nothing.",
            "다른 난수에서 시작한 학습 한 번입니다. 여기에 보고한 시드는 설정을 고르는 데 쓰지 "
            "않았습니다.",
        ),
    ),
    "holm": Term(
        Text("Holm's p", "Holm p"),
        Text(
            "A p value corrected for the number of tests, so that all claims together are false "
            "in at most 5 % of studies (or the config's level).",
            "검정 횟수를 고려해 보정한 p 값입니다. 주장 전체 가운데 하나라도 틀릴 확률이 5 %"
            "(또는 설정한 수준) 이하가 됩니다.",
        ),
    ),
    "power": Term(
        Text("power", "검정력"),
        Text(
            "Probability that a study like this one finds a difference that is really there.",
            "실제로 있는 차이를 이런 연구가 찾아낼 확률입니다.",
        ),
    ),
    "shuffled_gap": Term(
        Text("other-video gap", "다른 영상 손실 차"),
        Text(
            "How much more a human caption costs the model (nats a token) with another clip's "
            "video than with its own. Above 0: the video is used.",
            "제 영상 대신 다른 영상을 보여 주었을 때 사람 캡션의 손실(토큰당 nat)이 얼마나 "
            "늘어나는지입니다. 0보다 크면 영상을 쓰고 있다는 뜻입니다.",
        ),
    ),
    "reversed_gap": Term(
        Text("backwards gap", "역순 손실 차"),
        Text(
            "The same with the own frames in reverse. Above 0: the order of frames is used.",
            "제 영상의 프레임을 거꾸로 보여 주었을 때의 손실 차입니다. 0보다 크면 프레임의 순서를 "
            "쓰고 있다는 뜻입니다.",
        ),
    ),
    "kappa": Term(
        Text("κ", "κ"),
        Text(
            "Facts told right, beyond always naming the commonest value: 0 is that guess, 1 is "
            "always right. Only the demo's world is known.",
            "가장 흔한 값만 늘 대는 경우를 0, 항상 맞히는 경우를 1로 본 사실 정답률입니다. 사실을 "
            "아는 데모에서만 계산합니다.",
        ),
    ),
    "auc": Term(
        Text("AUC", "AUC"),
        Text(
            "How often a caption is more similar to its own clip than to another; 0.5 is chance.",
            "캡션이 다른 영상보다 제 영상과 더 비슷한 비율입니다. 0.5는 우연 수준입니다.",
        ),
    ),
    "signal_to_noise": Term(
        Text("signal to noise", "신호 대 잡음"),
        Text(
            "Spread between projectors over the error of a projector's mean. Where it is low, the "
            "measure cannot order these projectors.",
            "프로젝터 사이의 흩어짐을 프로젝터 평균의 오차로 나눈 값입니다. 낮으면 그 지표로는 "
            "프로젝터의 순서를 가릴 수 없습니다.",
        ),
    ),
    "video_share": Term(
        Text("video in tokens", "토큰 속 영상 비율"),
        Text(
            "Share of the visual tokens' variance that depends on which video is shown. At 0 the "
            "projector has lost the video.",
            "시각 토큰의 변동 가운데 어떤 영상인지에 따라 달라지는 비율입니다. 0이면 프로젝터가 "
            "영상을 잃은 것입니다.",
        ),
    ),
}


def term(key: str, name: Text | None = None) -> Markup:
    """A term with its meaning at hand: shown on hover and focus, and linked to the glossary.

    ``name`` is what stands in the text, where it is not the term itself.

    Raises:
        KeyError: the glossary has no such term.
    """
    found = TERMS[key]
    return Markup(
        '<a class="term" href="#term-{}">{}<span class="tip" role="tooltip">{}</span></a>'
    ).format(key, name or found.name, found.meaning)
