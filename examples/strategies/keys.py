"""Calls that stay with an instance, by a key and by a session; run it: `python examples/strategies/keys.py`.

Four instances in a fixed list answer with their name. They are functions in this process (`inner=`), so nothing else is
needed; with real ones only the registry changes.
"""

from collections import Counter
from collections.abc import Callable

import httpx

import p2plb
from p2plb import Client, ConsistentHash, RoundRobin, Sticky
from p2plb.balancing.view import Strategy

INSTANCES = [{"url": f"http://{name}.example:80", "metadata": {"name": name}} for name in ("ann", "bob", "cat", "dan")]


def answer(one: p2plb.Instance) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _request: httpx.Response(200, text=one.metadata["name"]))


def by_path(users: Client) -> None:
    found = {users.get(f"http://users/users/42{rest}").text for rest in ("", "/orders", "?full=1")}
    print("one user, served by", len(found), "instance")
    served = Counter(users.get(f"http://users/users/{number}").text for number in range(400))
    print("400 users, served by", len(served), "instances")


def by_body(chats: Client) -> None:
    talk = [{"role": "system", "content": "You are kind."}]
    found = set()
    for words in ("Hello", "How are you?", "Bye"):
        talk.append({"role": "user", "content": words})
        found.add(chats.post("http://users/chat", json={"messages": talk}).text)
    print("one conversation, served by", len(found), "instance")


def without_key(strict: Client) -> None:
    try:
        strict.get("http://users/")
    except ValueError as error:
        print(error)


def by_cookie(browser: Client) -> None:
    found = {browser.get("http://users/").text for _ in range(20)}
    print("one browser, served by", len(found), "instance")
    browser.cookies.clear()
    print("without its cookie, by", "another" if browser.get("http://users/").text not in found else "the same")


SCENES: list[tuple[Callable[[Client], None], Strategy]] = [
    (by_path, ConsistentHash(p2plb.path("/users/{id}"))),
    (by_body, ConsistentHash(p2plb.body("messages", 0, "content", chars=2048))),
    (without_key, ConsistentHash(without_key="error")),
    (by_cookie, Sticky(cookie="p2plb", inner=RoundRobin())),
]


def main() -> None:
    for scene, strategy in SCENES:
        with (
            p2plb.static({"users": INSTANCES}) as registry,
            Client(registry, strategy=strategy, inner=answer) as client,
        ):
            scene(client)


if __name__ == "__main__":
    main()
