"""Make the demo's clips and captions."""

from pathlib import Path

from siglip_study.base.forkserver import import_ahead
from siglip_study.base.jobs import job
from siglip_study.config import parse

with job(snakemake.log[0], snakemake.output, snakemake.input):
    # While this job works, so that the first one with a model need not wait.
    import_ahead(parse(snakemake.config).runtime.keep_loaded_s)
    from siglip_study.data.fingerprint import write_listing
    from siglip_study.demo.dataset import write_dataset

    demo = dict(snakemake.params.demo)
    root = Path(snakemake.output.facts).parent
    write_dataset(root, seed=demo.pop("seed"), sizes=demo)
    write_listing(parse(snakemake.config), root)
