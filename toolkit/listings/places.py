"""Places of pictures in plain files: a whole file, or so many bytes from some place in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import ImageSizeError
from toolkit.figures import mebibytes_text
from toolkit.listings import MOST_BYTES


@dataclass(frozen=True)
class FileBytes:
    """`length` bytes of a file from `offset` on; all of them where `length` is None."""

    path: Path
    offset: int = 0
    length: int | None = None

    @property
    def within(self) -> str:
        """Which bytes of the file; in their order as text, too."""
        return "" if self.length is None else f"{self.offset:015}+{self.length}"

    def read(self) -> bytes:
        """Return the bytes. Raises OSError, ImageSizeError for more than a picture may have."""
        if self.length is None:
            return self._whole()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(min(self.length, MOST_BYTES))
        if len(data) < self.length:
            raise EOFError(f"{self.path} ends within the picture")
        return data

    def _whole(self) -> bytes:
        # without a buffer, which takes as long as reading a small file
        with self.path.open("rb", buffering=0) as file:
            data = file.readall() if os.fstat(file.fileno()).st_size <= MOST_BYTES else None
        if data is None or len(data) > MOST_BYTES:
            raise ImageSizeError(f"{self.path} is over the limit of {mebibytes_text(MOST_BYTES)}")
        return data
