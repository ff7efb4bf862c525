"""Check everything that can be checked before GPU time is spent."""

from siglip_study.config import parse_config
from siglip_study.errors import StudyError
from siglip_study.jobs import job, log

with job(snakemake.log[0]):
    from siglip_study.rehearsal.preflight import preflight, verdict

    findings = preflight(parse_config(snakemake.config))
    for finding in findings:
        log.info("%s", finding)
    ready, sentence = verdict(findings)
    if not ready:
        raise StudyError(sentence)
    log.info("%s", sentence)
