from siglip_study.features import SCORER_VERSION, VISION_VERSION


rule vision_features:
    input:
        manifest=PATHS.manifest,
    output:
        [directory(FEATURES[split]) for split in SPLITS],
    log:
        PATHS.log("vision_features"),
    benchmark:
        PATHS.benchmark("vision_features")
    conda:
        "../../environment.yml"
    resources:
        **GPU,
    params:
        vision=CONFIG.vision.model_dump(),
        root=str(CONFIG.data_root),
        resume=str(PATHS.resume("features", CONFIG.vision.model_dump())),
        version=VISION_VERSION,
    message:
        "encoding clips with the frozen vision encoder"
    script:
        "../scripts/vision_features.py"


rule scorer_features:
    input:
        manifest=PATHS.manifest,
    output:
        selection=SCORER_FEATURES["selection"],
        report=SCORER_FEATURES["report"],
    log:
        PATHS.log("scorer_features"),
    benchmark:
        PATHS.benchmark("scorer_features")
    priority: 1  # its check comes before the larger encoder's work
    conda:
        "../../environment.yml"
    resources:
        **GPU,
    params:
        scorer=CONFIG.scorer.scoring_keys(),
        root=str(CONFIG.data_root),
        version=SCORER_VERSION,
    message:
        "embedding frames with the scorer"
    script:
        "../scripts/scorer_features.py"
