"""The client for asyncio: the same calls as ``partition_injector.Injector``, as coroutines.

>>> async with AsyncInjector() as injector:
...     async with await injector.partition(isolate=["n1"]) as partition: ...
...     record = await partition.recovery(timeout="60s")
"""

from .client import AsyncInjector
from .events import AsyncEvents
from .partition import AsyncPartition

__all__ = ["AsyncEvents", "AsyncInjector", "AsyncPartition"]
