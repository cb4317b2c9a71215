"""Profiling: measure, align, memory, roofline, compare and report."""
