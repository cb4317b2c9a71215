"""Why ONNX Runtime would not open or run a graph, in its own words without those about its source code."""

from __future__ import annotations

import re

# how the runtime says that an operator is neither ONNX's nor its own
FOREIGN = ("No Op registered", "is not a registered function/op")
FOREIGN_HINT = "; it runs ONNX's own operators only: export without this one, or give the PyTorch model"
NEWER_HINT = "; install a newer onnxruntime, or write the file with an older opset"

# a line of its source, then the function there with its parameters, or the function's bare name
_PLACE = re.compile(
    r"(?:/\S*/)?[\w.]+\.(?:cc|cpp|cu|h|hpp):\d+ (?:[^()]*::[^()]*\([^()]*\)(?: const)? |\w+ )?"
)
_CONDITION = re.compile(r"(?:^|(?<=: ))[^.:]*(?:[=!<>]=|[<>]|&&|\|\|)[^.:]* was false\. ?")
_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_RUNNING = re.compile(
    r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: "
)
_NODE = re.compile(r'In Node, \("([^"]*)", (\w+), "[^"]*", -?\d+\) : .* , Error ')
_OPENING = re.compile(r"Load model from .*? failed: ?|Exception during initialization: |Fatal error: ")
_INVALID = re.compile(r"This is an invalid model\. (?:Error: )?|Invalid model\. ")
_OPSET = re.compile(
    r"ONNX Runtime only \*guarantees\*.*? Opset (\d+) .* for domain (\S+) is till opset (\d+)\."
)
_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_DOMAIN = re.compile(r"No opset import for domain '([^']*)'")


def reason_of(error: Exception) -> str:
    """Return what an error of ONNX Runtime says, in one line, and what to do where that is known."""
    lines = str(error).strip().splitlines()
    text = _STATUS.sub("", lines[0] if lines else type(error).__name__)
    text = _OPENING.sub("", text)
    text = _CONDITION.sub("", _PLACE.sub("", text))
    text = _INVALID.sub("", _NODE.sub(_named, _RUNNING.sub(_named_last, text)))
    text = _OPSET.sub(r"opset \1 of \2 is newer than the runtime here takes (\3)", text)
    text = _IR.sub(r"its IR version \1 is newer than the runtime here takes (\2)", text)
    text = _DOMAIN.sub(r"the file names no opset for the domain '\1'", text).strip().removesuffix(".")
    if "newer than the runtime here" in text:
        return text + NEWER_HINT
    return text + (FOREIGN_HINT if any(words in text for words in FOREIGN) else "")


def _named(found: re.Match[str]) -> str:
    return _node(found[1], found[2])


def _named_last(found: re.Match[str]) -> str:
    return _node(found[2], found[1])


def _node(name: str, operator: str) -> str:
    return f"node {name!r} ({operator}): " if name else f"a node {operator}: "
