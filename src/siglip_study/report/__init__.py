"""From result files to tables, charts and one self-contained HTML page."""
