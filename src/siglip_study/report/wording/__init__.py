"""Sentences on results, made from typed results, in both languages; nothing reads one back.

``labels`` has what stands on the page alike for every study, ``glossary`` what its terms mean.
"""
