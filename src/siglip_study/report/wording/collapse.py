"""Clauses on why a captioner collapsed; ``collapse_cause`` decides which of them holds."""

from __future__ import annotations

from functools import partial

from siglip_study.report.language import Text, said

SAID: dict[str, Text] = {
    "by_design": Text(
        "its tokens are one learned constant for every video, by design",
        "설계상 모든 영상에 같은 학습된 상수를 토큰으로 씁니다",
    ),
    "encoder_alike": Text(
        "the encoder's own features are alike ({share} of them differs between videos, cosine "
        "{cosine}): there is nothing that a projector could pass on",
        "인코더의 특징부터 서로 비슷합니다(영상마다 다른 부분 {share}, 코사인 {cosine}). "
        "프로젝터가 "
        "전할 것이 없습니다",
    ),
    "never_there": Text(
        "tokens of all videos were alike before training ({share} of them depended on the video) "
        "and stayed so: its initialisation hides the video and training did not find it",
        "모든 영상의 토큰이 학습 전부터 비슷했고(영상에 따른 부분 {share}) 끝까지 그대로였습니다. "
        "초깃값이 영상을 가리고 학습이 이를 찾아내지 못했습니다",
    ),
    "lost": Text(
        "tokens of all videos became alike in epoch {epoch} of stage {stage} ({changes}): the "
        "projector lost the video",
        "{stage}단계 {epoch}번째 에폭에서 모든 영상의 토큰이 비슷해졌습니다({changes}). 프로젝터가 "
        "영상을 잃었습니다",
    ),
    "lost.share": Text("share that depends on the video", "영상에 따른 부분"),
    "lost.cosine": Text("between-video cosine", "영상 사이 코사인"),
    "lost.rank": Text("effective rank", "유효 랭크"),
    "lost.back": Text(
        "some of it came back ({share} at the end), too late",
        "일부는 돌아왔지만(끝에 {share}) 너무 늦었습니다",
    ),
    "mixed_up": Text(
        "tokens stay apart ({share} of them depends on the video), but videos that are alike no "
        "longer have tokens that are alike (of their nearest neighbours {overlap} survive, by "
        "chance {chance}): the projector scrambled what the encoder saw",
        "토큰은 서로 다르지만(영상에 따른 부분 {share}) 비슷한 영상의 토큰이 더는 비슷하지 않습니다"
        "(가까운 이웃 가운데 {overlap}만 유지, 우연 수준 {chance}). 프로젝터가 인코더가 본 것을 "
        "뒤섞었습니다",
    ),
    "ignored": Text(
        "tokens stay apart ({share} of them depends on the video, between-video cosine {cosine}), "
        "but captions do not (distinct captions {own}, people's {people}): the language model "
        "ignores them",
        "토큰은 서로 다르지만(영상에 따른 부분 {share}, 영상 사이 코사인 {cosine}) 캡션은 그렇지 "
        "않습니다(서로 다른 캡션 {own}, 사람 {people}). 언어 모델이 토큰을 무시합니다",
    ),
    "ignored.lora": Text(
        "LoRA took {share} of the squared gradient norm",
        "LoRA가 기울기 제곱 노름의 {share}^을/를 차지했습니다",
    ),
    "by_heart": Text(
        "the training loss fell ({train}) and that of other clips did not ({other}): the training "
        "clips were learned by heart, and what the features say does not carry over",
        "학습 손실은 줄었지만({train}) 다른 영상의 손실은 줄지 않았습니다({other}). 학습 영상을 "
        "외웠을 뿐, 특징이 말하는 바가 다른 영상에 통하지 않습니다",
    ),
    "exploded": Text(
        "the gradient norm exploded at step {step} of stage {stage} ({norm:.2g}, until then "
        "{usual:.2g}): the learning rate is too high",
        "{stage}단계 {step}번째 스텝에서 기울기 노름이 폭발했습니다({norm:.2g}, 그때까지 "
        "{usual:.2g}). "
        "학습률이 너무 높습니다",
    ),
    "attention.single": Text(
        "each query reads a single patch (attention entropy {entropy})",
        "쿼리마다 패치 하나만 읽습니다(어텐션 엔트로피 {entropy})",
    ),
    "attention.all": Text(
        "each query averages all patches (attention entropy {entropy})",
        "쿼리마다 모든 패치를 평균합니다(어텐션 엔트로피 {entropy})",
    ),
    "vanished": Text(
        "since then hardly any gradient leads back (median norm {early:.2g} in the first {steps} "
        "steps, {late:.2g} after it)",
        "그 뒤로는 되돌릴 기울기가 거의 없습니다(노름 중앙값 처음 {steps}스텝 {early:.2g}, 이후 "
        "{late:.2g})",
    ),
    "cooler": Text(
        "at stage-1 rate {calm} the same design keeps the video, so that rate {own} is too high",
        "같은 설계가 1단계 학습률 {calm}에서는 영상을 유지하므로, {own}^은/는 너무 높습니다",
    ),
    "not_measured": Text(
        "Not measured: training.diagnosis_clips is 0, or the run is older than it.",
        "측정하지 않았습니다. training.diagnosis_clips가 0이거나 그 이전의 학습입니다.",
    ),
    "kept": Text(
        "tokens follow the video to the end ({share} of them depends on it)",
        "토큰이 끝까지 영상을 따릅니다(영상에 따른 부분 {share})",
    ),
    "no_cause": Text(
        "No cause to be seen in its training: {kept}.",
        "학습 과정에서 원인이 보이지 않습니다. {kept}.",
    ),
    "not_grounded": Text(
        "No collapse, but captions that were not shown to fit their clips: {kept}.",
        "붕괴하지는 않았지만 캡션이 영상과 맞는다고 확인되지 않았습니다. {kept}.",
    ),
    "no_collapse": Text("No collapse: {kept}.", "붕괴하지 않았습니다. {kept}."),
}

cause_clause = partial(said, SAID)
