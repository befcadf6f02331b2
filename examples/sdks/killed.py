"""A replica dies with calls in its hands: none of 100 fails, but a stream that had begun; run it as the guide says.

The client is httpx's here; openai 2 is built on httpx, and openai 3 takes its clients too.
"""

import asyncio
import os
import signal

import httpx
import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

import p2plb
from p2plb import AsyncClient, Policy, Retry

http = AsyncClient(policy=Policy(retry=Retry(repeatable={"POST"})))
hello: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


def process(text: str | None) -> int:
    """Return the process that answers "process 4711: hello"."""
    return int((text or "").removeprefix("process ").partition(":")[0])


async def ask(llm: AsyncOpenAI) -> int:
    answer = await llm.chat.completions.create(model="m", messages=hello)
    return process(answer.choices[0].message.content)


async def whole_answers(llm: AsyncOpenAI) -> None:
    """Make 100 calls, ten at a time, and kill a replica after thirty."""
    victim = await ask(llm)
    os.kill(victim, signal.SIGSTOP)  # it answers no more: what it gets from now on it dies with
    calls, answers = iter(range(100)), list[int]()

    async def caller() -> None:
        for _ in calls:
            answers.append(await ask(llm))
            if len(answers) == 30:
                os.kill(victim, signal.SIGKILL)

    with p2plb.call() as c:
        await asyncio.gather(*(caller() for _ in range(10)))
    lost = [attempt for attempt in c.attempts if attempt.fault == "maybe_processed"]
    print("answered:", len(answers), "by", len(set(answers)), "replicas")
    print("died with calls in its hands:", len(lost) > 0)


async def a_stream(llm: AsyncOpenAI) -> None:
    """Kill the replica that streams, and ask once more."""
    chunks = await llm.chat.completions.create(model="m", messages=hello, stream=True, max_tokens=100_000)
    try:
        async for chunk in chunks:
            if (text := chunk.choices[0].delta.content or "").startswith("process"):
                os.kill(process(text), signal.SIGKILL)
    except (openai.APIConnectionError, httpx.TransportError) as error:  # openai 3 wraps it, openai 2 does not
        print("a stream that had begun:", type(error).__name__)
    with p2plb.call() as c:
        await ask(llm)
    print("the next call:", c.attempts[-1].reason)


async def main() -> None:
    llm = AsyncOpenAI(
        base_url="http://llm/v1",
        api_key="none",
        http_client=http,  # type: ignore[arg-type]  # openai 3 takes it, but its annotation does not say so
        max_retries=0,
    )
    async with llm:
        await whole_answers(llm)
        await a_stream(llm)


if __name__ == "__main__":
    asyncio.run(main())
