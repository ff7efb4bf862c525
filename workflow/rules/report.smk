from siglip_study.report import TABLES_VERSION, VERSION as PAGE_VERSION

TABLES = [
    "ranking",
    "cells",
    "clips",
    "controls",
    "pairs",
    "runs",
    "variance",
    "ledger",
    "sensitivity",
    "metrics",
    "rejected",
]


rule tables:
    input:
        scores=PATHS.scores("report"),
        selection=PATHS.selection,
        scorer_check=PATHS.scorer_check,
        rejected=PATHS.rejected,
        trainings=trainings,
    output:
        [PATHS.tables / f"{name}.parquet" for name in TABLES],
        [
            report(
                PATHS.tables / f"{name}.csv",
                caption="../report/tables.rst",
                category="Tables",
                labels={"table": name},
            )
            for name in TABLES
        ],
        [PATHS.tables / f"{name}.tex" for name in ("ranking", "pairs")],
        ranking=PATHS.ranking,
    log:
        PATHS.log("tables"),
    benchmark:
        PATHS.benchmark("tables")
    conda:
        "../../environment.yml"
    params:
        gate=CONFIG.gate.model_dump(),
        version=TABLES_VERSION,
    message:
        "testing differences and ranking"
    script:
        "../scripts/tables.py"


rule report:
    input:
        tables=[PATHS.tables / f"{name}.parquet" for name in TABLES],
        ranking=PATHS.ranking,
        manifest=PATHS.manifest,
        summary=PATHS.manifest_summary,
        trainings=trainings,
        template=ancient(REPORT_FILES),
    output:
        report=report(
            PATHS.report,
            caption="../report/report.rst",
            category="Answer",
        ),
        answer=PATHS.report_answer,
        figures=report(
            directory(PATHS.figures),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
    log:
        PATHS.log("report"),
    benchmark:
        PATHS.benchmark("report")
    conda:
        "../../environment.yml"
    params:
        report=CONFIG.report.model_dump(),
        templates=lambda wildcards: str(TEMPLATES),
        templates_hash=TEMPLATES_HASH,
        version=PAGE_VERSION,
    message:
        "writing the report"
    script:
        "../scripts/report.py"
