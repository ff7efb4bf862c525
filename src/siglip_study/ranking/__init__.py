"""From per-clip margins to a ranking that says no more than the data allow: gate, tests, ranks."""
