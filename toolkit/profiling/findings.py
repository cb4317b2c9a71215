"""What a profile says, in words, by rule and with the numbers."""

from __future__ import annotations

from toolkit.profiling.result import Profile


def with_findings(profile: Profile) -> Profile:
    """Return the profile with each run's findings filled in."""
    return profile
