"""Sentences on results, made from typed results, in both languages; nothing reads one back.

The words are in ``en.toml`` and ``ko.toml``; what stands here decides which of them are said, and
with which figures. ``labels`` are alike for every study, ``glossary`` is what its terms mean.
"""
