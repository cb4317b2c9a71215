"""One file out of a multipart form, held in memory under the body's own limit."""

from __future__ import annotations

from serve.api import RefusedError

MAX_PARTS = 16


def file_of(body: bytes, content_type: bytes, field: str = "file") -> bytes:
    """Return the content of the form's field. Raises RefusedError (400, 422)."""
    from python_multipart.exceptions import MultipartParseError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise RefusedError(400, "the form's Content-Type names no boundary")
    form = _Form(field)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]  # its TypedDict is private
        parser.write(body)
        parser.finalize()
    except MultipartParseError as error:
        raise RefusedError(400, f"the form cannot be read: {error}") from None
    if not form.ended:
        raise RefusedError(400, "the form is cut short")
    if form.content is None:
        raise RefusedError(422, f"the form has no field {field!r} with a picture")
    return bytes(form.content)


class _Form:
    """Collects one field and skips the others."""

    def __init__(self, field: str) -> None:
        self.field = field.encode()
        self.content: bytearray | None = None
        self.ended = False
        self._name = self._value = b""
        self._mine = False
        self._parts = 0

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise RefusedError(400, f"the form has more than {MAX_PARTS} parts")
        self._mine, self._name, self._value = False, b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            if options.get(b"name") == self.field and self.content is None:
                self._mine, self.content = True, bytearray()
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._mine and self.content is not None:
            self.content += data[start:end]

    def _end(self) -> None:
        self.ended = True
