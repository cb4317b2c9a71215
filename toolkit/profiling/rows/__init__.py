"""Executed nodes laid onto modules: claims, rows and their cells."""
