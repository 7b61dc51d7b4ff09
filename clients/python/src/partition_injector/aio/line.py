"""One HTTP connection, used by one task at a time."""

from __future__ import annotations

import asyncio
from typing import AsyncIterator, Optional, TypeVar

from ..address import Address
from ..calls import Call
from ..errors import Problem, hides_frames
from ..http import Parser
from ..line import Ended, explained, permitted
from ..transport import Stream

__tracebackhide__ = hides_frames

T = TypeVar("T")

_PIECE = 64 * 1024


class AsyncLine:
    """A connection that calls are made over. Whatever interrupts a call closes it, a cancellation included, since its
    answer is outstanding."""

    def __init__(self, stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stream = stream
        self.is_new = True
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: Address) -> AsyncLine:
        """Connects."""
        # A local connect does not wait, and ssh connects in its own process.
        stream = Stream(address)
        stream.socket.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=stream.second())
        return cls(stream, reader, writer)

    @property
    def is_stale(self) -> bool:
        """Whether the daemon, or this client, has ended it."""
        return self.stream.is_closed or self._reader.at_eof() or self.stream.is_stale()

    def close(self) -> None:
        """Closes it."""
        # The transport closes its descriptor in the loop's next turn, which may not come.
        self.stream.close()
        self._writer.transport.abort()

    async def call(self, call: Call[T]) -> T:
        """Makes one call. Raises Ended if the connection ends first."""
        parser = Parser()
        try:
            await self._exchange(call, parser)
        except Ended as ended:
            ended.error = await asyncio.to_thread(explained, self.stream, ended)
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

    async def lines(self, call: Call[T], timeout: Optional[float]) -> AsyncIterator[T]:
        """Makes a call that is answered by a stream of lines; the connection belongs to it from now on. Raises
        TimeoutError if no line comes for so many seconds."""
        parser = Parser()
        try:
            await self._exchange(call, parser, whole=False)
            answer = parser.answer
            assert answer is not None
            if not 200 <= answer.status < 300:
                while not parser.done:
                    await asyncio.wait_for(self._receive(parser), call.patience)
                call.answer(answer)
            while True:
                for line in answer.lines():
                    yield call.line(line)
                if parser.done:
                    return
                try:
                    await asyncio.wait_for(self._receive(parser), timeout)
                except asyncio.TimeoutError:
                    raise TimeoutError from None
        except Ended as ended:
            ended.error = await asyncio.to_thread(explained, self.stream, ended)
            raise
        except Problem as problem:
            raise permitted(problem, self.stream.address) from None
        finally:
            self.close()

    async def _exchange(self, call: Call[T], parser: Parser, whole: bool = True) -> None:
        async def exchange() -> None:
            try:
                self._writer.write(call.request())
                await self._writer.drain()
            except (BrokenPipeError, ConnectionResetError):
                # A daemon that refuses a connection answers, and closes it: the answer may be there.
                pass
            while not (parser.done if whole else parser.answer):
                await self._receive(parser)

        try:
            await asyncio.wait_for(exchange(), call.patience)
        except asyncio.TimeoutError:
            raise Ended(f"{call}: no answer in {call.patience:.0f} s", False) from None

    async def _receive(self, parser: Parser) -> None:
        try:
            data = await self._reader.read(_PIECE)
        except OSError as error:
            raise Ended(error.strerror or str(error), parser.untouched) from error
        if data:
            parser.feed(data)
        elif not parser.end():
            raise Ended("it was closed before the answer was whole", parser.untouched)
