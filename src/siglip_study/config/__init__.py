"""The config as typed, validated objects: the only place that knows key names and defaults.

Nothing heavy is imported: Snakemake reads it every time.
"""

from siglip_study.config.loading import load, parse, plain_config, read

__all__ = ["load", "parse", "plain_config", "read"]
