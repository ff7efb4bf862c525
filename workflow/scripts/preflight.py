"""Check everything that can be checked before GPU time is spent."""

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import job, loading, log
from siglip_study.config import parse

with job(snakemake.log[0]):
    # transformers would import scipy for the losses of object detectors.
    with loading(without="scipy"):
        import transformers.modeling_utils  # noqa: F401 (most of what laying models out imports)
    with loading():
        from siglip_study.planning.preflight import preflight, verdict

    findings = preflight(parse(snakemake.config))
    for finding in findings:
        log.info("%s", finding)
    ready, sentence = verdict(findings)
    if not ready:
        raise StudyError(sentence)
    log.info("%s", sentence)
