"""The openai SDK over p2plb: sync, async, and streams of both; run it as the guide says."""

import asyncio

import httpx
import openai
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

import p2plb
import p2plb.httpx2
from p2plb import ConsistentHash, Policy, Retry

ours = p2plb if issubclass(openai.DefaultHttpxClient, httpx.Client) else p2plb.httpx2  # openai 2, or 3 and later
policy = Policy(strategy=ConsistentHash(), retry=Retry(repeatable={"POST"}))
hello: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


def ask(llm: OpenAI) -> str:
    return llm.chat.completions.create(model="m", messages=hello).choices[0].message.content or ""


def stream(llm: OpenAI) -> str:
    chunks = llm.chat.completions.create(model="m", messages=hello, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def ask_async(llm: AsyncOpenAI) -> str:
    answer = await llm.chat.completions.create(model="m", messages=hello)
    return answer.choices[0].message.content or ""


async def stream_async(llm: AsyncOpenAI) -> str:
    chunks = await llm.chat.completions.create(model="m", messages=hello, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def sync() -> None:
    http = ours.Client(policy=policy)
    with OpenAI(base_url="http://llm/v1", api_key="none", http_client=http, max_retries=0) as llm:
        with p2plb.call(key="conv-7") as c:
            answers = {ask(llm) for _ in range(5)} | {stream(llm) for _ in range(5)}
        print("sync:", *answers)
        print("one conversation:", len(c.attempts), "calls,", len({one.instance for one in c.served}), "replica")
        print("without a key:", len({ask(llm) for _ in range(30)}), "replicas")
    print("closed with the SDK:", http.is_closed)


async def main() -> None:
    http = ours.AsyncClient(policy=policy)
    async with AsyncOpenAI(base_url="http://llm/v1", api_key="none", http_client=http, max_retries=0) as llm:
        with p2plb.call(key="conv-7") as c:
            answers = {await ask_async(llm), await stream_async(llm)}
        print("async:", *answers, "in", len(c.attempts), "attempts")
    print("closed with the SDK:", http.is_closed)


if __name__ == "__main__":
    sync()
    asyncio.run(main())
