"""Kinds of parameters, and what their text becomes: words, numbers, sizes, devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from toolkit.errors import CnnkitError, unknown_name

Function = TypeVar("Function", bound=Callable[..., Any])


def options(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Apply several option decorators at once, so that --help lists them in the order given."""

    def apply(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def checked(check: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return an option's callback: what `check` makes of its value; what that raises is wrong usage."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else check(value)
        except (CnnkitError, ValueError) as error:
            raise click.BadParameter(str(error), ctx=context, param=parameter) from None

    return read


def words(text: str | None) -> tuple[str, ...]:
    """Return the words between a text's commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


def counts(text: str) -> tuple[int, ...]:
    """Return the whole numbers between a text's commas, each once. Raises ValueError."""
    found = words(text)
    if not found or not all(word.isdecimal() and int(word) > 0 for word in found):
        raise ValueError("whole numbers of 1 or more separated by commas, as in 1,8,32")
    return tuple(map(int, found))


def images_or_all(text: str) -> int | None:
    """Return a number of images; None for `all`. Raises ValueError."""
    if text != "all" and (not text.isdigit() or int(text) < 1):
        raise ValueError("a number of images, or all")
    return None if text == "all" else int(text)


def size(text: str) -> tuple[int, int]:
    """Return height and width, of N alone a square's. Raises ValueError."""
    height, sign, width = text.lower().replace("×", "x").partition("x")
    sides = (height, width if sign else height)
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError("pixels as HxW, such as 128x96, or one side, such as 128")
    return int(sides[0]), int(sides[1])


def check_device(text: str) -> str:
    """Return a device's word. Raises NotFoundError for what names none; whether it is here shows later."""
    from toolkit.backends import device_words, names_device

    known = device_words()
    if not names_device(text, known):
        raise unknown_name("device", text, known)
    return text


class FiniteRange(click.FloatRange):
    """A number within bounds; every comparison with NaN is false, so click lets that through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no finite number", param, ctx)
        return found


class Listed(click.Option):
    """An option whose help begins with what there is, which is looked up only then."""

    def __init__(self, *words: Any, listing: Callable[[], list[str]], **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.listing = listing

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0], f"{', '.join(self.listing())} {record[1]}".rstrip())


def _dataset_words() -> str:
    from toolkit.datasets import own_sources

    return "|".join(("NAME", *(str(spec.example) for spec in own_sources())))


class DatasetOption(click.Option):
    """Names the sources of people's own pictures in its help, and looks for them only then."""

    def make_metavar(self, ctx: click.Context) -> str:
        return _dataset_words()


class DatasetArgument(click.Argument):
    """Does as DatasetOption, in a command's usage."""

    def make_metavar(self, ctx: click.Context) -> str:
        return _dataset_words()
