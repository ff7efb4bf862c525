"""From per-clip margins to a ranking that says no more than the data allow: gate, tests, ranks."""

#: Raise it when the same scores give another selection.
VERSION = 1

#: Raise it when the scorer check gives other figures.
CHECK_VERSION = 1
