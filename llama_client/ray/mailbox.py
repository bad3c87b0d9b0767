"""The actor between the workers of a job and its driver, which no one can call. It decides nothing.

A worker's question waits here until the driver has answered it. Ray may start the actor again, and make the calls that
had no answer again: the driver bears questions that come twice.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_client.ray.messages import Message, Reply


class Mailbox:
    """Made by Ray, in a process of its own."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._new: dict[int, Message] = {}
        self._has_new = asyncio.Event()

    async def ask(self, message: Message) -> Reply:
        """For workers: the driver's answer."""
        # One that is started again must not take answers to the questions before.
        number = random.getrandbits(62)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._new[number] = message
        self._has_new.set()
        try:
            reply: Reply = await answer
            return reply
        finally:
            self._waiting.pop(number, None)

    async def exchange(self, replies: Mapping[int, Reply], wait_s: float) -> Mapping[int, Message]:
        """For the driver: gives answers, and takes the questions that have come, within this time."""
        for number, reply in replies.items():
            answer = self._waiting.get(number)
            if answer is not None and not answer.done():
                answer.set_result(reply)
        if not self._new:
            self._has_new.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._has_new.wait()
            except TimeoutError:
                return {}
        new, self._new = self._new, {}
        return new
