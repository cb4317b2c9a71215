"""What was typed beside a choice."""

from __future__ import annotations

from click.testing import CliRunner

from cnnkit import front_door


def test_a_choice_is_profiled_as_it_is_or_not_at_all() -> None:
    for more in (["--precision", "fp32"], ["--fp16"], ["--untrained"], ["--backend", "ort"]):
        result = CliRunner().invoke(front_door.main, ["profile", "lenet", "--choice", *more])
        assert result.exit_code == 2
        assert "--choice names file, weights, backend, precision and device" in result.stderr
