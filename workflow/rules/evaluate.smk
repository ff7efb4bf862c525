import json


def reported_cells():
    """The chosen cells with fresh seeds: known once the tuning cells are scored."""
    path = checkpoints.select.get().output.selection
    with open(path, encoding="utf-8") as file:
        chosen = json.load(file)["projectors"].values()
    return [cell.name for cell in STUDY.reported(row["chosen"] for row in chosen)]


def captioners(split):
    """Everything that captions a split: trained cells and baselines."""
    baselines = [name for name, (_, scored) in BASELINES.items() if scored == split]
    if split == "selection":
        return [cell.name for cell in STUDY.tuning] + baselines
    return reported_cells() + [cell.name for cell in STUDY.controls] + baselines


def captions_of(names):
    return [PATHS.captions(name) for name in names]


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
        cells=lambda wildcards: captioners(wildcards.split),
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
