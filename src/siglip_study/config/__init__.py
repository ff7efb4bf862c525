"""The config as typed, validated objects: the only place that knows key names and defaults."""
