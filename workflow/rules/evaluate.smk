rule baselines:
    input:
        manifest=PATHS.manifest,
        features=[FEATURES[split] for split in SPLITS],
    output:
        references=PATHS.captions("references"),
        retrieval=PATHS.captions("retrieval"),
    log:
        PATHS.log("baselines"),
    benchmark:
        PATHS.benchmark("baselines")
    conda:
        "../../environment.yml"
    params:
        code=rule_code("baselines"),
    message:
        "captions of the references and of the nearest training clip"
    script:
        "../scripts/baselines.py"


rule score:
    input:
        manifest=PATHS.manifest,
        frames=lambda wildcards: SCORER_FEATURES[wildcards.split],
        captions=lambda wildcards: captions_of(captioners(wildcards.split)),
    output:
        scores=PATHS.scores("{split}"),
    log:
        PATHS.log("score", "{split}"),
    benchmark:
        PATHS.benchmark("score", "{split}")
    conda:
        "../../environment.yml"
    params:
        scorer=CONFIG.scorer.model_dump(),
        bertscore=CONFIG.bertscore and CONFIG.bertscore.model_dump(),
        language=CONFIG.data.language,
        code=rule_code("score"),
    message:
        "scoring captions of the {wildcards.split} split"
    script:
        "../scripts/score.py"


checkpoint select:
    input:
        scores=PATHS.scores("selection"),
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
        code=rule_code("select"),
    message:
        "choosing each projector's cell"
    script:
        "../scripts/select_cells.py"
