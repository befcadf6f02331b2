"""The anthropic SDK over p2plb: sync, async, and streams; run it as the guide says."""

import asyncio

import anthropic
import httpx
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam

import p2plb
import p2plb.httpx2
from p2plb import ConsistentHash, Policy, Retry

ours = p2plb if issubclass(anthropic.DefaultHttpxClient, httpx.Client) else p2plb.httpx2  # anthropic 0, or 1 and later
policy = Policy(strategy=ConsistentHash(), retry=Retry(repeatable={"POST"}))
hello: list[MessageParam] = [{"role": "user", "content": "hello"}]


def sync() -> None:
    with Anthropic(base_url="http://llm", api_key="none", http_client=ours.Client(policy=policy), max_retries=0) as llm:
        with p2plb.call(key="conv-7") as c:
            whole = llm.messages.create(model="m", max_tokens=3, messages=hello).content[0].text  # type: ignore[union-attr]  # the fake says text
            with llm.messages.stream(model="m", max_tokens=3, messages=hello) as stream:
                streamed = "".join(stream.text_stream)
        print("sync:", whole)
        print("the same streamed:", streamed == whole, "in", len(c.attempts), "attempts")


async def main() -> None:
    http = ours.AsyncClient(policy=policy)
    async with AsyncAnthropic(base_url="http://llm", api_key="none", http_client=http, max_retries=0) as llm:
        with p2plb.call(key="conv-7") as c:
            async with llm.messages.stream(model="m", max_tokens=3, messages=hello) as stream:
                streamed = "".join([text async for text in stream.text_stream])
        print("async:", streamed, "in", len(c.attempts), "attempt")


if __name__ == "__main__":
    sync()
    asyncio.run(main())
