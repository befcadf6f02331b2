"""The ollama SDK over p2plb: chat and generate, whole and streamed; run it as the guide says."""

import asyncio

import ollama

import p2plb
from p2plb import ConsistentHash, Policy, Retry

policy = Policy(strategy=ConsistentHash(), retry=Retry(repeatable={"POST"}))
hello = [{"role": "user", "content": "hello"}]


def sync() -> None:
    with ollama.Client(host="http://ollama", transport=p2plb.Transport(policy=policy)) as llm:
        with p2plb.call(key="conv-7") as c:
            whole = llm.chat("m", hello).message.content
            chat = "".join(part.message.content or "" for part in llm.chat("m", hello, stream=True))
            generated = "".join(part.response for part in llm.generate("m", "hello", stream=True))
        print("sync:", whole)
        print("the same streamed:", whole == chat == generated, "in", len(c.attempts), "attempts")


async def main() -> None:
    async with ollama.AsyncClient(host="http://ollama", transport=p2plb.AsyncTransport(policy=policy)) as llm:
        with p2plb.call(key="conv-7") as c:
            parts = [part.message.content or "" async for part in await llm.chat("m", hello, stream=True)]
        print("async:", "".join(parts), "in", len(c.attempts), "attempt")


if __name__ == "__main__":
    sync()
    asyncio.run(main())
