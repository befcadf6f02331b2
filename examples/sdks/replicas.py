"""Three fake replicas of a model server and a vector store, for as long as a command runs.

    python examples/sdks/replicas.py python examples/sdks/with_openai.py

Each is a process of its own that speaks what the SDKs need of OpenAI's, Anthropic's, Ollama's and Qdrant's APIs, with
streams, and says which process it is. The command finds them in `P2PLB_REGISTRY` as the services llm, ollama and
qdrant. Nothing here knows p2plb: in production these are your vLLM or TGI replicas, recorded in etcd.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

SERVICES = ("llm", "ollama", "qdrant")
SECONDS_PER_WORD = 0.005


def words(asked: dict[str, Any]) -> Iterator[str]:
    """Yield an answer word by word, `max_tokens` of them (3 if it is not said)."""
    count = asked.get("max_tokens") or asked.get("max_completion_tokens") or 3
    for word in itertools.islice(itertools.chain([f"process {os.getpid()}:"], itertools.repeat(" hello")), count):
        time.sleep(SECONDS_PER_WORD)
        yield word


def server_sent(*events: dict[str, Any]) -> Iterator[str]:
    for event in events:
        name = f"event: {event['type']}\n" if "type" in event else ""
        yield f"{name}data: {json.dumps(event)}\n\n"


def openai_chat(asked: dict[str, Any]) -> Iterator[str]:
    """OpenAI's /v1/chat/completions."""
    head = {"id": "1", "created": 0, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "".join(words(asked))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        yield json.dumps({**head, "object": "chat.completion", "choices": [choice]})
        return
    for word in words(asked):
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
        yield from server_sent({**head, "object": "chat.completion.chunk", "choices": [choice]})
    yield "data: [DONE]\n\n"


def anthropic_messages(asked: dict[str, Any]) -> Iterator[str]:
    """Anthropic's /v1/messages."""
    message = {"id": "1", "type": "message", "role": "assistant", "model": asked["model"], "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    if not asked.get("stream"):
        content = [{"type": "text", "text": "".join(words(asked))}]
        yield json.dumps({**message, "content": content, "stop_reason": "end_turn"})
        return
    begin = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield from server_sent({"type": "message_start", "message": message}, begin)
    for word in words(asked):
        delta = {"type": "text_delta", "text": word}
        yield from server_sent({"type": "content_block_delta", "index": 0, "delta": delta})
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    yield from server_sent({"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"})


def ollama_chat(asked: dict[str, Any]) -> Iterator[str]:
    """Ollama's /api/chat: one JSON object a line."""
    for piece in words(asked) if asked.get("stream") else ["".join(words(asked))]:
        yield json.dumps({"model": asked["model"], "message": {"role": "assistant", "content": piece}}) + "\n"


def ollama_generate(asked: dict[str, Any]) -> Iterator[str]:
    """Ollama's /api/generate."""
    for piece in words(asked) if asked.get("stream") else ["".join(words(asked))]:
        yield json.dumps({"model": asked["model"], "response": piece}) + "\n"


def qdrant_query(asked: dict[str, Any]) -> Iterator[str]:
    """Qdrant's points/query: the point found says who found it."""
    point = {"id": 1, "version": 0, "score": 1.0, "payload": {"found_by": os.getpid()}}
    yield json.dumps({"result": {"points": [point]}, "status": "ok", "time": 0.0})


def qdrant_upsert(asked: dict[str, Any]) -> Iterator[str]:
    """Qdrant's PUT of points."""
    yield json.dumps({"result": {"operation_id": 1, "status": "completed"}, "status": "ok", "time": 0.0})


def qdrant_create(asked: dict[str, Any]) -> Iterator[str]:
    """Qdrant's PUT of a collection."""
    yield json.dumps({"result": True, "status": "ok", "time": 0.0})


ROUTES = {
    r"POST /v1/chat/completions": openai_chat,
    r"POST /v1/messages": anthropic_messages,
    r"POST /api/chat": ollama_chat,
    r"POST /api/generate": ollama_generate,
    r"PUT /collections/\w+": qdrant_create,
    r"PUT /collections/\w+/points": qdrant_upsert,
    r"POST /collections/\w+/points/query": qdrant_query,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = f"{self.command} {self.path.partition('?')[0]}"
        answer = next((answer for pattern, answer in ROUTES.items() if re.fullmatch(pattern, what)), None)
        if answer is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if asked.get("stream") else "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.send_chunks(answer(asked))

    def send_chunks(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            data = piece.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        pass


class Replica(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    parent = os.getpid()

    def service_actions(self) -> None:
        if os.getppid() != self.parent:  # which was killed
            os._exit(1)

    def handle_error(self, *args: object) -> None:
        pass  # a caller that went away


def serve(server: Replica) -> NoReturn:
    """Serve in a forked process, until it is killed."""
    try:
        server.serve_forever()
    finally:
        os._exit(1)


@contextmanager
def replicas(count: int) -> Iterator[list[int]]:
    """Run processes that serve, and give their ports."""
    ports, processes = [], []
    for _ in range(count):
        with Replica(("127.0.0.1", 0), Handler) as server:
            if (process := os.fork()) == 0:
                serve(server)
        ports.append(server.server_port)
        processes.append(process)
    try:
        yield ports
    finally:
        for process in processes:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def main() -> int:
    with replicas(3) as ports:
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        registry = "static://" + "&".join(f"{service}={addresses}" for service in SERVICES)
        return subprocess.run(sys.argv[1:], env={**os.environ, "P2PLB_REGISTRY": registry}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
