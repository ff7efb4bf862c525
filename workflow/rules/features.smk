from siglip_study.features import SCORER_VERSION, VISION_VERSION


rule vision_features:
    input:
        clips=PATHS.clips("{split}"),
    output:
        features=directory(PATHS.features("{encoder}", "{split}")),
    log:
        PATHS.log("vision_features", "{encoder}/{split}"),
    benchmark:
        PATHS.benchmark("vision_features", "{encoder}/{split}")
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    resources:
        **GPU,
    params:
        vision=lambda wildcards: STUDY.encoders[wildcards.encoder].keys(),
        resume=lambda wildcards: str(
            PATHS.resume(
                f"features-{wildcards.split}",
                STUDY.encoders[wildcards.encoder].keys(),
            )
        ),
        version=VISION_VERSION,
    message:
        "encoding the {wildcards.split} clips with {wildcards.encoder}"
    script:
        "../scripts/vision_features.py"


rule scorer_features:
    input:
        clips=PATHS.clips("{split}"),
    output:
        features=PATHS.scorer_features(STUDY.scorer_slug, "{split}"),
    log:
        PATHS.log("scorer_features", "{split}"),
    benchmark:
        PATHS.benchmark("scorer_features", "{split}")
    priority: 1  # its check comes before the larger encoder's work
    conda:
        "../../environment.yml"
    threads: MODEL_THREADS
    resources:
        **GPU,
    params:
        scorer=CONFIG.scorer.scoring_keys(),
        version=SCORER_VERSION,
    message:
        "embedding frames of the {wildcards.split} clips with the scorer"
    script:
        "../scripts/scorer_features.py"
