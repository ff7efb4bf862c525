"""Words of the figures, both languages side by side."""

from __future__ import annotations

from siglip_study.report.language import Text

LABELS: dict[str, Text] = {
    # Headings of data, titles of axes.
    "charts.projector": Text("projector", "프로젝터"),
    "charts.projectors": Text("projectors", "프로젝터"),
    "charts.margin": Text("margin", "마진"),
    "charts.low": Text("low ({percent} %)", "하한 ({percent} %)"),
    "charts.high": Text("high ({percent} %)", "상한 ({percent} %)"),
    "charts.seeds": Text("single seeds", "시드별 값"),
    "charts.seed": Text("seed {seed}", "시드 {seed}"),
    "charts.pair": Text("pair", "쌍"),
    "charts.difference": Text("difference in margin", "마진 차이"),
    "charts.joint.low": Text("low, for all pairs together", "하한(모든 쌍 동시)"),
    "charts.joint.high": Text("high, for all pairs together", "상한(모든 쌍 동시)"),
    "charts.p": Text("p (Holm)", "p (Holm)"),
    "charts.verdict": Text("verdict", "판정"),
    "charts.place": Text("(place)", "(순위)"),
    "charts.captioner": Text("captions of", "캡션 작성자"),
    "charts.rate": Text("learning rate", "학습률"),
    "charts.epochs": Text("epochs", "에폭"),
    "charts.settings": Text("other settings", "다른 설정"),
    "charts.refused": Text("refused as", "제외 사유"),
    "charts.chosen": Text("chosen", "선택됨"),
    "charts.control": Text("control", "대조군"),
    "charts.controls": Text("controls", "대조군"),
    "charts.outcome": Text("outcome", "결과"),
    "charts.run": Text("run", "학습"),
    "charts.kind": Text("kind", "종류"),
    "charts.loss.train": Text("training loss at the end", "마지막 학습 손실"),
    "charts.loss.held": Text("validation loss at the end", "마지막 검증 손실"),
    "charts.axis.margin": Text(
        "margin: own clip above other clips · bar {percent} %, ring: one seed",
        "마진: 다른 영상보다 자기 영상에 맞는 정도 · 막대 {percent} %, 고리 시드 하나",
    ),
    "charts.axis.controls": Text("margin, 95 % interval", "마진, 95 % 구간"),
    "charts.axis.effective": Text(
        "distinct captions (share of clips)", "서로 다른 캡션(영상 수 대비)"
    ),
    "charts.axis.gpu": Text("GPU seconds of one run, both stages", "학습 1회의 GPU 시간(초)"),
    "charts.axis.time": Text("seconds of one run, both stages", "학습 1회의 시간(초)"),
    "charts.axis.step": Text("step", "스텝"),
    "charts.axis.loss": Text("loss (nats a token)", "손실(토큰당 nat)"),
    "charts.axis.epoch": Text("epoch, both stages", "에폭(두 단계)"),
    # The first screen's figure.
    "charts.intervals.title": Text("How sure is the order?", "순서는 얼마나 확실합니까?"),
    "charts.intervals.alt": Text(
        "Margin of each projector with its interval: {rows}. Lines to read them by: {lines}.",
        "프로젝터별 마진과 구간: {rows}. 기준선: {lines}.",
    ),
    "charts.mark.chance": Text("same caption for all", "모두에게 같은 캡션"),
    "charts.mark.retrieval": Text("nearest training caption", "가장 비슷한 학습 캡션"),
    "charts.mark.human": Text("people", "사람"),
    "charts.tip.seed": Text(
        "{projector}, seed {seed}: {value}", "{projector}, 시드 {seed}: {value}"
    ),
    # Controls.
    "charts.controls.title": Text(
        "Do the controls come out as they must?", "대조군은 예상대로 나왔습니까?"
    ),
    "charts.controls.passed": Text(
        "All {n} controls that are tests came out as they must.",
        "검사용 대조군 {n}개가 모두 예상대로 나왔습니다.",
    ),
    "charts.controls.failed": Text(
        "Not as they must be: {names}.", "예상과 다르게 나온 대조군: {names}."
    ),
    "charts.outcome.good": Text("✓", "✓"),
    "charts.outcome.bad": Text("✗ not as it must", "✗ 기대와 다름"),
    "charts.outcome.plain": Text("a bar", "기준선"),
    # Pairs.
    "charts.pairs.title": Text("Who is better than whom?", "누가 누구보다 낫습니까?"),
    "charts.pairs.alt": Text(
        "{claimed} of {n} pairs differ for sure (bold, coloured): the row’s margin less the "
        "column’s.",
        "{n}쌍 중 {claimed}쌍의 차이가 확인되었습니다(굵은 글씨, 색칠). "
        "값은 행의 마진에서 열의 마진을 뺀 것입니다.",
    ),
    "charts.pairs.shown": Text("{better} is better", "{better}^이/가 더 낫습니다"),
    "charts.pairs.open": Text("not shown to differ", "차이가 확인되지 않았습니다"),
    # Other measures.
    "charts.measures.title": Text(
        "Would another measure say the same?", "다른 지표로도 순서가 같습니까?"
    ),
    "charts.measures.alt": Text(
        "{agree} of {of} other measures put {first} first as well; the order that agrees least "
        "with the margin’s has τ = {low}.",
        "다른 지표 {of}개 중 {agree}개도 {first}^을/를 1위로 둡니다. 마진과 가장 다른 순서의 τ는 "
        "{low}입니다.",
    ),
    # Facts, which only the demo knows.
    "charts.facts.title": Text("Which facts are seen?", "어떤 사실을 봅니까?"),
    "charts.facts.blind": Text(
        "{projector} names {fact} no better than always the commonest (κ {value}).",
        "{projector}^은/는 {fact}^을/를 가장 흔한 값만 말하는 것보다 "
        "잘 맞히지 못합니다(κ {value}).",
    ),
    "charts.facts.all": Text(
        "Every projector sees every fact better than chance.",
        "모든 프로젝터가 모든 사실을 우연보다 잘 맞힙니다.",
    ),
    # Score against diversity.
    "charts.diversity.title": Text(
        "High score, few captions: the trap", "높은 점수, 몇 가지뿐인 캡션: 함정"
    ),
    "charts.diversity.alt": Text(
        "{n} of {of} captioners fall into the zone of too few different captions: there a high "
        "SigLIP cosine can come from one caption that suits all clips.",
        "캡션 작성자 {of}개 중 {n}개의 캡션이 너무 비슷합니다. 이 영역에서는 모든 영상에 어울리는 "
        "캡션 하나로도 SigLIP 코사인이 높을 수 있습니다.",
    ),
    "charts.zone": Text("too much alike", "너무 비슷함"),
    # Cost.
    "charts.cost.title": Text("What does quality cost?", "품질의 비용은 얼마입니까?"),
    "charts.cost.alt": Text(
        "No other is both cheaper and better than these: {front}.",
        "이보다 싸면서 더 나은 것은 없습니다: {front}.",
    ),
    # Tuning.
    "charts.tuning.title": Text(
        "Which learning rate and epochs?", "어떤 학습률과 에폭을 골랐습니까?"
    ),
    "charts.tuning.settings": Text("Which settings?", "어떤 설정을 골랐습니까?"),
    "charts.tuning.settings_alt": Text(
        "Margin on the selection clips by learning rate (columns) and the other settings (rows); "
        "framed: chosen. {chosen}.",
        "선택용 영상에서의 마진입니다. 열은 학습률, 행은 나머지 설정이고 테두리가 선택된 "
        "설정입니다. {chosen}.",
    ),
    "charts.tuning.alt": Text(
        "Margin on the selection clips by learning rate (columns) and epochs (rows); framed: "
        "chosen. {chosen}.",
        "선택용 영상에서의 마진입니다. 열은 학습률, 행은 에폭이고 테두리가 선택된 설정입니다. "
        "{chosen}.",
    ),
    # Over training.
    "charts.losses.title": Text("Did training converge?", "학습은 수렴했습니까?"),
    "charts.losses.alt": Text(
        "Loss over both stages: reported runs strong, tuning runs faint, validation as dots, "
        "the dotted line where stage 2 begins. All panels have one scale.",
        "두 단계의 손실입니다. 보고된 학습은 진하게, 탐색 학습은 옅게, 검증은 점으로 그렸고 "
        "점선에서 2단계가 시작합니다. 모든 칸의 눈금이 같습니다.",
    ),
    "charts.diagnosis.title": Text(
        "What is left of the video in the tokens?", "토큰에 영상이 얼마나 남아 있습니까?"
    ),
    "charts.diagnosis.collapsed": Text(
        "Collapsed, in red: {runs}.", "붕괴한 학습(빨간색): {runs}."
    ),
    "charts.diagnosis.sound": Text(
        "No run collapsed; controls are dashed.", "붕괴한 학습은 없습니다. 대조군은 파선입니다."
    ),
    "charts.diag.share": Text("share from the video", "영상에서 온 비율"),
    "charts.diag.cosine": Text("cosine between videos", "영상 사이 코사인"),
    "charts.diag.rank": Text("effective rank", "유효 랭크"),
    "charts.diag.neighbours": Text("neighbours kept", "유지된 이웃"),
    "charts.diag.variety": Text("distinct captions", "서로 다른 캡션"),
    "charts.diag.lora": Text("LoRA’s gradient share", "LoRA 기울기 비율"),
    # Around every figure.
    "charts.data": Text("Data", "데이터"),
    "charts.key": Text("Show or hide", "표시할 프로젝터"),
}
