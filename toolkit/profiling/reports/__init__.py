"""Profiles as a terminal table, HTML, CSV, a Perfetto trace and Markdown."""
