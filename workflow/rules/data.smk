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


rule manifest:
    input:
        [PATHS.demo / "files.json"] if CONFIG.demo else [],
    output:
        manifest=PATHS.manifest,
        rejected=PATHS.rejected,
        summary=PATHS.manifest_summary,
    log:
        PATHS.log("manifest"),
    benchmark:
        PATHS.benchmark("manifest")
    conda:
        "../../environment.yml"
    params:
        dataset=DATASET,
        version=MANIFEST_VERSION,
    message:
        "checking every clip and caption"
    script:
        "../scripts/manifest.py"
