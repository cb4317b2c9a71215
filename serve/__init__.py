"""Serving: a classifier, its batching, an HTTP API and a page."""
