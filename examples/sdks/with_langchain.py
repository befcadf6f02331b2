"""LangChain's ChatOpenAI over p2plb: invoke, stream, batch, and their async twins; run it as the guide says."""

import asyncio

import httpx
import openai
from langchain_openai import ChatOpenAI

import p2plb
import p2plb.httpx2
from p2plb import ConsistentHash, Policy, Retry

ours = p2plb if issubclass(openai.DefaultHttpxClient, httpx.Client) else p2plb.httpx2  # openai 2, or 3 and later
policy = Policy(strategy=ConsistentHash(), retry=Retry(repeatable={"POST"}))


async def main() -> None:
    with ours.Client(policy=policy) as http:
        async with ours.AsyncClient(policy=policy) as async_http:
            llm = ChatOpenAI(
                base_url="http://llm/v1",
                api_key="none",  # type: ignore[arg-type]  # LangChain makes a secret of it
                model="m",
                http_client=http,
                http_async_client=async_http,
                max_retries=0,
                http_socket_options=(),  # they are for the client that LangChain would make
            )
            with p2plb.call(key="conv-7") as c:
                whole = llm.invoke("hello").text
                answers = {"".join(part.text for part in llm.stream("hello"))}
                answers |= {answer.text for answer in llm.batch(["hello", "hello"])}
                answers |= {(await llm.ainvoke("hello")).text}
                answers |= {"".join([part.text async for part in llm.astream("hello")])}
            print("invoke:", whole)
            print("all the same:", answers == {whole}, "in", len(c.attempts), "attempts")


if __name__ == "__main__":
    asyncio.run(main())
