"""Speed, each part against the published method; run with ``python -m benchmarks.run``."""
