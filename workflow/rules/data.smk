from siglip_study.data import VERSION as MANIFEST_VERSION
from siglip_study.demo import VERSION as DEMO_VERSION

if CONFIG.demo:

    rule demo:
        output:
            facts=PATHS.demo / "facts.json",
            listing=PATHS.demo / "files.json",
        log:
            PATHS.log("demo"),
        benchmark:
            PATHS.benchmark("demo")
        conda:
            "../../environment.yml"
        params:
            demo=CONFIG.demo.model_dump(),
            version=DEMO_VERSION,
        message:
            "making the demo's clips"
        script:
            "../scripts/demo.py"


rule clips:
    input:
        [PATHS.demo / "files.json"] if CONFIG.demo else [],
    output:
        clips=PATHS.clips("{split}"),
        unused=PATHS.unused("{split}"),
    log:
        PATHS.log("clips", "{split}"),
    benchmark:
        PATHS.benchmark("clips", "{split}")
    wildcard_constraints:
        split="|".join(CONFIG.data.splits),
    conda:
        "../../environment.yml"
    params:
        listed=lambda wildcards: LISTED[wildcards.split],
        version=MANIFEST_VERSION,
    message:
        "checking every {wildcards.split} clip and caption"
    script:
        "../scripts/clips.py"


localrules:
    manifest,


if "held_out" in CONFIG.data.splits:

    rule halves:
        input:
            clips=PATHS.clips("held_out"),
        output:
            **{split: CLIPS[split] for split in HELD_OUT},
        log:
            PATHS.log("halves"),
        localrule: True
        conda:
            "../../environment.yml"
        params:
            version=MANIFEST_VERSION,
        message:
            "halving the held-out clips"
        script:
            "../scripts/halves.py"


# For people, tables and page: no other job waits for all splits.
rule manifest:
    input:
        clips=[CLIPS[split] for split in SPLITS],
        unused=[PATHS.unused(split) for split in CONFIG.data.splits],
    output:
        manifest=PATHS.manifest,
        rejected=PATHS.rejected,
        summary=PATHS.manifest_summary,
    log:
        PATHS.log("manifest"),
    priority: 2  # what became of the clips is told early
    conda:
        "../../environment.yml"
    params:
        version=MANIFEST_VERSION,
    message:
        "listing the clips of all splits"
    script:
        "../scripts/manifest.py"
