"""One HTTP connection, used by one thread at a time."""

from __future__ import annotations

import socket
import time
from typing import Generator, Optional, TypeVar

from .address import Address
from .calls import Call
from .errors import Broken, InjectorError, NotPermitted, Problem, hides_frames
from .http import Parser
from .transport import Stream

__tracebackhide__ = hides_frames

T = TypeVar("T")

_PIECE = 64 * 1024


class Ended(Exception):
    """The stream ended before the answer; ``untouched`` says that nothing of an answer had come. ``error`` is the error
    for the caller, which has to be found before the stream is closed."""

    def __init__(self, why: str, untouched: bool) -> None:
        super().__init__(why)
        self.untouched = untouched
        self.error: InjectorError = Broken(why)


def explained(stream: Stream, ended: Ended) -> InjectorError:
    """The error for a stream that ended."""
    why = stream.why_ended()
    if why is not None:
        return why
    return Broken(f"the connection to the daemon at {stream.address} broke: {ended}", remedy="look at `injector status`")


def lost_owner(address: Address) -> Broken:
    """The error for a connection that owned partitions, and that the daemon has ended."""
    return Broken(
        f"the daemon at {address} has ended the connection that owned this client's partitions, and so healed them",
        remedy="was it restarted? The next call reconnects",
    )


def permitted(error: Problem, address: Address) -> InjectorError:
    """The error for a problem: what is not permitted has a class of its own."""
    if error.code != "not-permitted":
        return error
    return NotPermitted(f"{address}: {error.detail}", remedy=error.remedy)


class Line:
    """A connection that calls are made over. Whatever interrupts a call closes it, since its answer is outstanding."""

    def __init__(self, address: Address) -> None:
        self.stream = Stream(address)
        self.is_new = True

    def close(self) -> None:
        """Closes it."""
        self.stream.close()

    def call(self, call: Call[T]) -> T:
        """Makes one call. Raises Ended if the connection ends first."""
        parser = Parser()
        try:
            self._exchange(call, parser)
        except Ended as ended:
            ended.error = explained(self.stream, ended)
            self.close()
            raise
        except BaseException:
            self.close()
            raise
        self.is_new = False
        answer = parser.answer
        assert answer is not None
        if answer.ends_connection:
            self.close()
        try:
            return call.answer(answer)
        except Problem as problem:
            raise permitted(problem, self.stream.address) from None

    def _exchange(self, call: Call[T], parser: Parser, whole: bool = True) -> None:
        end = time.monotonic() + call.patience
        try:
            self._send(call, end)
            while not (parser.done if whole else parser.answer):
                self._receive(parser, end)
        except TimeoutError:
            raise Ended(f"{call}: no answer in {call.patience:.0f} s", False) from None

    def lines(self, call: Call[T], timeout: Optional[float]) -> Generator[T, None, None]:
        """Makes a call that is answered by a stream of lines; the connection belongs to it from now on. Raises
        TimeoutError if no line comes for so many seconds."""
        parser = Parser()
        try:
            self._exchange(call, parser, whole=False)
            answer = parser.answer
            assert answer is not None
            if not 200 <= answer.status < 300:
                while not parser.done:
                    self._receive(parser, time.monotonic() + call.patience)
                call.answer(answer)
            while True:
                for line in answer.lines():
                    yield call.line(line)
                if parser.done:
                    return
                self._receive(parser, None if timeout is None else time.monotonic() + timeout)
        except Ended as ended:
            ended.error = explained(self.stream, ended)
            raise
        except Problem as problem:
            raise permitted(problem, self.stream.address) from None
        finally:
            self.close()

    def _send(self, call: Call[T], end: float) -> None:
        try:
            self.stream.socket.settimeout(_left(end))
            self.stream.socket.sendall(call.request())
        except (BrokenPipeError, ConnectionResetError):
            # A daemon that refuses a connection answers, and closes it: the answer may be there.
            pass
        except socket.timeout:
            # Before Python 3.10 it is no TimeoutError.
            raise TimeoutError from None

    def _receive(self, parser: Parser, end: Optional[float]) -> None:
        try:
            self.stream.socket.settimeout(None if end is None else _left(end))
            data = self.stream.socket.recv(_PIECE)
        except socket.timeout:
            raise TimeoutError from None
        except OSError as error:
            raise Ended(error.strerror or str(error), parser.untouched) from error
        if data:
            parser.feed(data)
        elif not parser.end():
            raise Ended("it was closed before the answer was whole", parser.untouched)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
