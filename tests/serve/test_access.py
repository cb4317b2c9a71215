"""Who is let in: no credential opens more than it says, and an empty one opens nothing."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from serve.api import RefusedError
from serve.api.access import Access


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize("access", [{"token": ""}, {"auth": ""}], ids=["token", "auth"])
@pytest.mark.parametrize(
    "sent", [None, b"Bearer", b"Bearer ", b"Basic ", basic(""), basic("any:"), basic(":")]
)
def test_an_empty_credential_lets_nobody_in(access: dict[str, Any], sent: bytes | None) -> None:
    headers = {b"host": b"localhost"} if sent is None else {b"host": b"localhost", b"authorization": sent}
    with pytest.raises(RefusedError) as refused:
        Access(**access).check("/v2", headers)
    assert refused.value.status == 401


def test_without_any_nobody_is_asked() -> None:
    Access().check("/v2", {b"host": b"localhost"})
