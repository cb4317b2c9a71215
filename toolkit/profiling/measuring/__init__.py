"""Latency, memory and the machine's own speed, measured."""
