"""Places of pictures in plain files: a whole file, or so many bytes from some place in it."""

from __future__ import annotations

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
        most = MOST_BYTES if self.length is None else min(self.length, MOST_BYTES)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(most)
            if self.length is not None and len(data) < self.length:
                raise EOFError(f"{self.path} ends within the picture")
            if self.length is None and file.read(1):
                raise ImageSizeError(f"{self.path} is over the limit of {mebibytes_text(MOST_BYTES)}")
        return data
