# Neither has an output, so each runs whenever it is asked for; neither belongs to the study.
rule rehearse:
    log:
        PATHS.log("rehearse"),
    conda:
        "../../environment.yml"
    resources:
        **GPU,
    message:
        "timing each distinct step with random weights, to say what the study will cost"
    script:
        "../scripts/rehearse.py"


localrules:
    preflight,


rule preflight:
    log:
        PATHS.log("preflight"),
    conda:
        "../../environment.yml"
    message:
        "checking config, models, data, disk and GPU"
    script:
        "../scripts/preflight.py"
