from siglip_study.metrics.base import metric_versions
from siglip_study.ranking import CHECK_VERSION, VERSION as SELECTION_VERSION
from siglip_study.scoring import BASELINES_VERSION, VERSION as SCORES_VERSION


# Asked before anything is trained: a scorer that cannot tell makes every GPU hour vain.
rule scorer_check:
    input:
        **SCORER_FEATURES,
        clips=[CLIPS[split] for split in HELD_OUT],
    output:
        check=PATHS.scorer_check,
    log:
        PATHS.log("scorer_check"),
    benchmark:
        PATHS.benchmark("scorer_check")
    priority: 1
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    params:
        scorer=CONFIG.scorer.scoring_keys(),
        alpha=CONFIG.gate.alpha,
        version=CHECK_VERSION,
    message:
        "asking whether the scorer can tell right captions from wrong ones"
    script:
        "../scripts/scorer_check.py"


localrules:
    scorer_verdict,


# A rule of its own: when it fails, the figures of the check stay.
rule scorer_verdict:
    input:
        check=PATHS.scorer_check,
    output:
        verdict=PATHS.scorer_verdict,
    log:
        PATHS.log("scorer_verdict"),
    priority: 1
    conda:
        "../../environment.yml"
    params:
        stop=CONFIG.scorer.stop_if_blind,
    message:
        "may training begin?"
    script:
        "../scripts/scorer_verdict.py"


# The first verdict is waited for by every training. Later ones, of other clips or another scorer,
# come early and end the study if they must, but stand before no training: Snakemake does not ask
# what else has changed for whatever stands behind a job that is due.
if not PATHS.training_may_begin.exists():

    rule training_may_begin:
        input:
            PATHS.scorer_verdict,
        output:
            touch(PATHS.training_may_begin),
        priority: 1
        localrule: True


rule baselines:
    input:
        clips=[CLIPS[split] for split in SPLITS],
        features=[PATHS.features(STUDY.encoder_slug, split) for split in SPLITS],
        frames=[SCORER_FEATURES[half] for half in CHOOSING],
    output:
        retrieval=PATHS.captions("retrieval"),
        generic=PATHS.captions("generic"),
        category=PATHS.captions("category"),
    log:
        PATHS.log("baselines"),
    benchmark:
        PATHS.benchmark("baselines")
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    params:
        scorer=CONFIG.scorer.scoring_keys(),
        version=BASELINES_VERSION,
    message:
        "captions of the nearest training clip and the blind adversaries"
    script:
        "../scripts/baselines.py"


rule score:
    input:
        clips=clips_scored,
        frames=frames_scored,
        captions=captions_scored,
        losses=losses_scored,
        facts=[PATHS.demo / "facts.json"] if CONFIG.demo else [],
    output:
        scores=PATHS.scores("{phase}"),
    log:
        PATHS.log("score", "{phase}"),
    benchmark:
        PATHS.benchmark("score", "{phase}")
    conda:
        "../../environment.yml"
    threads: 2
    params:
        scorer=CONFIG.scorer.scoring_keys(),
        bertscore=CONFIG.bertscore and CONFIG.bertscore.model_dump(),
        language=CONFIG.data.language,
        version=SCORES_VERSION,
        metrics=metric_versions(),
    message:
        "scoring captions: {wildcards.phase}"
    script:
        "../scripts/score.py"


checkpoint select:
    input:
        scores=PATHS.scores("tuning"),
    output:
        selection=PATHS.selection,
    log:
        PATHS.log("select"),
    benchmark:
        PATHS.benchmark("select")
    conda:
        "../../environment.yml"
    params:
        gate=CONFIG.gate.model_dump(),
        version=SELECTION_VERSION,
    message:
        "choosing each projector's cell"
    script:
        "../scripts/select_cells.py"
