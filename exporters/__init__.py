"""Exporters: one file a target, each declaring `EXPORTER` (the contract is toolkit.exporting)."""
