"""HTTP/1.1 without a socket: what is written, and a parser that is fed with what was read.

The standard library's client has no asyncio twin; both of ours feed this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional

from .errors import Misread, hides_frames

__tracebackhide__ = hides_frames

#: No head of the daemon comes near it.
_LONGEST_HEAD = 64 * 1024


def request(method: str, path: str, body: Optional[bytes]) -> bytes:
    """A whole request: head and body go out in one piece."""
    head = f"{method} {path} HTTP/1.1\r\nHost: injector\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode("ascii") + b"\r\n" + (body or b"")


@dataclass
class Answer:
    """The head of an answer, and as much of its body as has come."""

    status: int
    headers: Dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    @property
    def ends_connection(self) -> bool:
        """Whether the daemon closes the connection behind this answer."""
        return "close" in self.headers.get("connection", "").lower()

    def lines(self) -> Iterator[bytes]:
        """Takes the whole lines out of the body."""
        while True:
            at = self.body.find(b"\n")
            if at < 0:
                return
            line = bytes(self.body[:at])
            del self.body[: at + 1]
            yield line


class Parser:
    """Reads one answer. Feed it until ``done``; ``answer`` is there as soon as the head is."""

    def __init__(self) -> None:
        self.answer: Optional[Answer] = None
        self.done = False
        self._buffer = bytearray()
        #: Bytes of the body, or of the current chunk, that are still to come; None before the size is known.
        self._left: Optional[int] = None
        self._chunked = False
        self._until_close = False

    @property
    def untouched(self) -> bool:
        """Whether nothing of an answer has come."""
        return self.answer is None and not self._buffer

    def feed(self, data: bytes) -> None:
        """Takes in what was read."""
        self._buffer += data
        if self.answer is None and not self._head():
            return
        assert self.answer is not None
        if self._until_close:
            self._take(self.answer, len(self._buffer))
        elif self._chunked:
            self._chunks(self.answer)
        else:
            self._take(self.answer, self._left or 0)
            self.done = self._left == 0

    def end(self) -> bool:
        """The stream has ended; answers whether the answer is whole."""
        self.done = self.done or (self.answer is not None and self._until_close)
        return self.done

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise Misread("what answers there does not speak HTTP", remedy="is this the injector's socket?")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Misread("what answers there does not speak HTTP", remedy="is this the injector's socket?")
        pairs: List[List[str]] = [line.split(":", 1) for line in lines[1:] if ":" in line]
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        self.answer = Answer(int(words[1]), headers)
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        self._left = None if self._chunked or length is None else int(length)
        self._until_close = not self._chunked and length is None
        return True

    def _take(self, answer: Answer, most: int) -> None:
        taken = min(most, len(self._buffer))
        answer.body += self._buffer[:taken]
        del self._buffer[:taken]
        if self._left is not None:
            self._left -= taken

    def _chunks(self, answer: Answer) -> None:
        while not self.done:
            if self._left:
                self._take(answer, self._left)
                if self._left:
                    return
            if self._left == 0:
                # The line end behind a chunk.
                if len(self._buffer) < 2:
                    return
                del self._buffer[:2]
                self._left = None
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return
            try:
                size = int(bytes(self._buffer[:end]).split(b";")[0], 16)
            except ValueError as error:
                raise Misread("a chunk of the answer has no size") from error
            if size == 0:
                # No trailers are sent: an empty line follows.
                if len(self._buffer) < end + 4:
                    return
                del self._buffer[: end + 4]
                self.done = True
                return
            del self._buffer[: end + 2]
            self._left = size
