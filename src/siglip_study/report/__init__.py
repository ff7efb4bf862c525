"""From result files to tables, charts and one self-contained HTML page."""

#: Raise it when the page says or shows something else.
VERSION = 7

#: Raise it when the ranking or a table comes out otherwise.
TABLES_VERSION = 6
