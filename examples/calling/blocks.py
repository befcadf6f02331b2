"""Options for calls that an SDK makes, and an instance picked without sending: `python examples/calling/blocks.py`.

A fixed list stands for etcd and a mock for the instances, so nothing else is needed.
"""

import httpx

import p2plb
from p2plb import Client, ConsistentHash


class Chat:
    """Stands for an SDK: it takes an HTTP client and hides the requests that it makes."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, text: str) -> str:
        return self._client.get("http://llm/ask", params={"text": text}).text


def answer(request: httpx.Request) -> httpx.Response:
    """Stand for an instance."""
    return httpx.Response(200, text=f"{request.url.host} was asked {request.url.params['text']}")


def main() -> None:
    mock = httpx.MockTransport(answer)
    registry = "static://llm=10.0.0.7:80,10.0.0.8:80,10.0.0.9:80"
    with Client(registry, strategy=ConsistentHash(), inner=lambda _instance: mock) as client:
        client.wait_ready("llm", timeout=5)

        chat = Chat(client)
        with p2plb.call(key="conversation-7") as c:
            for text in ("hello", "how are you", "bye"):
                chat.ask(text)
        print("calls of one conversation:", len(c.served), "instances:", len({a.instance.id for a in c.attempts}))

        with client.pick("llm", key="conversation-7") as node:  # a websocket to node.host and node.port, say
            print("picked the same one:", node.instance == c.attempts[0].instance)

        try:
            with client.pick("llm", key="conversation-7") as node:
                raise ConnectionResetError
        except ConnectionResetError:
            pass
        with client.pick("llm", key="conversation-7") as other:
            print("after a failure another:", other.url != node.url)


if __name__ == "__main__":
    main()
