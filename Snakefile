# siglip-study: from captioned clips to a ranking of projectors, in one command:
#
#     snakemake --cores 1 --resources gpu=1
#
# Another study: --configfile config/study.yaml. Rules: workflow/rules/. Library: src/siglip_study/.
from snakemake.utils import min_version

min_version("9.20")


# A config given on the command line is another study: it replaces the demo's, key for key.
if not workflow.config_settings.configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/rehearse.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.tables.output,
        told_by_cells,
        PATHS.scorer_verdict,
        # Asked for here as well, so that controls need not wait until cells are chosen.
        rules.baselines.output,
        [PATHS.captions(cell.name) for cell in STUDY.controls],


rule presets:
    input:
        [PATHS.run(cell.name) / "captions.json" for cell in STUDY.presets],
