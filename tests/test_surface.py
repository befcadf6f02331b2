"""The surface: what is public, what an import costs, and which way imports point."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import p2plb

ROOT = Path(p2plb.__file__).parent

PUBLIC = [
    "AsyncClient",
    "AsyncShards",
    "AsyncTransport",
    "Call",
    "Client",
    "ConsistentHash",
    "DiscoveryError",
    "Instance",
    "Key",
    "LeastRequest",
    "LoadReportMiddleware",
    "Maglev",
    "NoInstances",
    "Node",
    "P2PError",
    "PeakEwma",
    "Picker",
    "Policy",
    "Probing",
    "Random",
    "RegistrationError",
    "Registry",
    "Rendezvous",
    "Retry",
    "RoundRobin",
    "Route",
    "Shards",
    "SlowStart",
    "Snapshot",
    "Sticky",
    "Strategy",
    "Subset",
    "Transport",
    "WeightedRoundRobin",
    "Where",
    "ZoneAware",
    "__version__",
    "body",
    "by_host",
    "by_path",
    "call",
    "cookie",
    "etcd",
    "header",
    "lifespan",
    "owns",
    "path",
    "query",
    "register",
    "static",
]


def test_public_names() -> None:
    """The public names are exactly these: adding one is a decision, taking one away breaks somebody."""
    assert sorted(p2plb.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_there(name: str) -> None:
    """Each name can be imported, and says what it is if it is a class or function of ours."""
    found = getattr(p2plb, name)
    assert name in dir(p2plb)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert inspect.getdoc(found)


def test_unknown_name() -> None:
    """A misspelt name is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="module 'p2plb' has no attribute 'Clinet'"):
        p2plb.Clinet  # noqa: B018  that this fails is the subject


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Policy", "strategy retry timeout attempt_timeout connect_timeout tls_name host only fallback share"),
        ("Retry", "attempts statuses backoff max_backoff max_retry_after repeatable"),
        ("Client", "registry options"),
        ("AsyncClient", "registry options"),
        ("LoadReportMiddleware", "app"),
        ("Probing", "pool max_age hot explore clock draw"),
        ("LeastRequest", "choices active_request_bias draw"),
        ("PeakEwma", "explore clock draw"),
        ("Random", "draw"),
        ("RoundRobin", "draw"),
        ("SlowStart", "inner seconds aggression least clock draw"),
        ("Sticky", "key cookie strict inner ttl size clock"),
        ("Subset", "inner size client"),
        ("WeightedRoundRobin", "reported clock draw"),
        ("Where", "inner where otherwise"),
        ("ZoneAware", "inner zone hard callers min_size draw"),
        ("ConsistentHash", "key without_key bounded_load slack"),
        ("Maglev", "key without_key bounded_load slack"),
        ("Rendezvous", "key without_key bounded_load slack"),
        ("Snapshot", "service instances revision ghosts"),
        ("Instance", "id service url weight zone priority state keepalive http metadata started sdk"),
        ("lifespan", "service also options"),
        ("etcd", "hosts user password password_file ca cert key tls prefix driver"),
        ("owns", "key service timeout"),
        ("Shards", "client service"),
        ("AsyncShards", "client service"),
        ("call", "key timeout repeatable where"),
        ("by_host", "only suffix"),
        ("by_path", "prefixes host strip"),
        ("header", "name"),
        ("path", "pattern"),
        ("body", "path chars"),
        ("static", "services"),
        ("query", "name"),
        ("cookie", "name"),
    ],
)
def test_signatures(name: str, arguments: str) -> None:
    """The names of arguments are public too."""
    assert list(inspect.signature(getattr(p2plb, name)).parameters) == arguments.split()


@pytest.mark.parametrize("kind", ["Client", "AsyncClient", "Transport", "AsyncTransport"])
def test_signatures_of_methods(kind: str) -> None:
    """What clients and transports can do with instances beside sending is the same for all four."""
    found = getattr(p2plb, kind)
    assert list(inspect.signature(found.pick).parameters) == ["self", "service", "key"]
    assert list(inspect.signature(found.wait_ready).parameters) == ["self", "services", "timeout"]


OPTIONS = (
    "cert http1 http2 inner limits local_address observers policy route services socket_options start_timeout"
    " strategy trust_env verify"
)


@pytest.mark.parametrize("kind", ["Client", "AsyncClient", "Transport", "AsyncTransport"])
def test_options_of_clients(kind: str) -> None:
    """All four take the same options of ours, by keyword."""
    from p2plb.httpx.arguments import TransportOptions  # noqa: PLC0415  the name is no public one

    assert sorted(TransportOptions.__annotations__) == OPTIONS.split()
    assert inspect.signature(getattr(p2plb, kind)).parameters["options"].kind is inspect.Parameter.VAR_KEYWORD


def modules_after(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing() -> None:
    """`import p2plb` costs next to nothing: neither httpx nor etcd's code is loaded before it is used."""
    found = modules_after("import p2plb")
    assert {name for name in found if name.startswith("p2plb")} == {"p2plb", "p2plb.version"}
    assert not found & {"httpx", "httpcore", "anyio", "asyncio", "ssl", "cachetools", "trio"}
    assert not found & {"httpx2", "grpc", "opentelemetry", "aiohttp"}


def test_what_is_optional_is_loaded_by_those_who_use_it() -> None:
    """A client loads neither the other family, nor what the extras bring."""
    found = modules_after("import p2plb; p2plb.Client('static://users=127.0.0.1:1').close()")
    assert "httpx" in found
    assert not {name.partition(".")[0] for name in found} & {"httpx2", "httpcore2", "grpc", "opentelemetry", "aiohttp"}


def test_the_data_plane_needs_no_httpx() -> None:
    """Balancing works without a word of httpx, sockets or etcd."""
    found = modules_after("import p2plb.balancing.attempts, p2plb.calling.policy")
    assert not found & {"httpx", "httpcore", "anyio", "trio", "ssl", "p2plb.wire", "p2plb.discovery.registry"}


# --- which way imports point -------------------------------------------------------------------------------------


def imported(file: Path) -> Iterator[str]:
    """Yield what a module imports when it runs, by full name; what is for type checkers only does not count."""
    for node in running(ast.parse(file.read_text("utf-8")).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            module = node.module or ""
            submodules = [alias.name for alias in node.names if is_module(f"{module}.{alias.name}")]
            yield from (f"{module}.{name}" for name in submodules)
            if len(submodules) < len(node.names):
                yield module


def running(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for statement in body:
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"):
            yield from ast.walk(statement)


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted(ROOT.rglob("*.py"))
BASIS = ("p2plb.errors", "p2plb.instance", "p2plb.load", "p2plb.version", "p2plb.quiet", "p2plb.forks")
ALLOWED = {
    "p2plb.version": (),
    "p2plb.errors": (),
    "p2plb.instance": (),
    "p2plb.load": (),
    "p2plb.quiet": ("p2plb.forks",),
    "p2plb.forks": (),
    "p2plb.calling.options": BASIS,
    "p2plb.calling.aiohttp_errors": (*BASIS, "p2plb.balancing.call"),
    "p2plb.calling.routing": BASIS,
    "p2plb.repeatable": (),
    "p2plb.calling.retry_after": (),
    "p2plb.calling.fallback": (*BASIS, "p2plb.balancing"),
    "p2plb.calling.policy": (*BASIS, "p2plb.balancing"),
    "p2plb.discovery.snapshot": BASIS,
    "p2plb.discovery": (*BASIS, "p2plb.discovery"),
    "p2plb.balancing": (
        *BASIS,
        "p2plb.balancing",
        "p2plb.discovery.snapshot",
        "p2plb.observe.events",
        "p2plb.repeatable",
    ),
    "p2plb.observe.events": BASIS,
    "p2plb.observe.stats": (*BASIS, "p2plb.balancing", "p2plb.discovery.registry"),
    "p2plb.observe.tracing": (*BASIS, "p2plb.balancing.call", "p2plb.wire.lane"),
    "p2plb.wire": (*BASIS, "p2plb.balancing", "p2plb.wire"),
    "p2plb.sharding": (
        *BASIS,
        "p2plb.discovery.snapshot",
        "p2plb.balancing.strategies.hashing",
        "p2plb.sharding",
    ),
    "p2plb.serving": (*BASIS, "p2plb.discovery", "p2plb.serving", "p2plb.sharding"),
}
"""For each part of the package what it may import of the rest. What is not listed joins the parts: the client's side
(calling), the families, the command line, and what is for tests."""

FOREIGN = ("httpx", "httpcore", "anyio", "trio", "asyncio", "ssl", "socket", "h2", "etcd3", "google", "grpc")
ALLOWED_FOREIGN = {
    "p2plb.balancing": (),
    "p2plb.calling": (),
    "p2plb.calling.shards": ("anyio",),
    "p2plb.sharding": (),
    "p2plb.observe": (),
    "p2plb.repeatable": (),
    "p2plb.discovery.etcd": ("httpx", "httpcore", "ssl", "socket"),
    "p2plb.discovery.etcd.grpc": ("etcd3", "google", "grpc"),
    "p2plb.discovery": (),
    "p2plb.wire": ("anyio", "trio", "asyncio", "ssl", "socket"),
}
"""What of the network each part may know: the pure ones nothing, the wire gets its httpcore passed in."""


def rule_for(module: str, rules: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    fitting = [name for name in rules if within(module, name)]
    return rules[max(fitting, key=len)] if fitting else None


def within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_one_way(file: Path) -> None:
    """errors, instance ← snapshot ← balancing ← wire ← families; discovery and balancing meet in the snapshot only."""
    module = name_of(file)
    allowed, foreign = rule_for(module, ALLOWED), rule_for(module, ALLOWED_FOREIGN)
    for name in imported(file):
        if allowed is not None and within(name, "p2plb"):
            assert any(within(name, part) for part in allowed), f"{module} imports {name}"
        if foreign is not None and name.split(".")[0] in FOREIGN:
            assert name.split(".")[0] in foreign, f"{module} imports {name}"
        if not within(module, "p2plb.cli"):
            assert not within(name, "p2plb.cli")
            assert within(module, "p2plb.testing") or not within(name, "p2plb.testing")


def test_the_rules_catch_something(tmp_path: Path) -> None:
    """The negative control: an import the wrong way is seen, in whichever form."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from p2plb.discovery import registry\nimport httpx\nif TYPE_CHECKING:\n    import ssl\n")
    assert list(imported(wrong)) == ["p2plb.discovery.registry", "httpx"]
    assert rule_for("p2plb.balancing.call", ALLOWED) == ALLOWED["p2plb.balancing"]
    assert rule_for("p2plb.discovery.snapshot", ALLOWED) == BASIS


# --- size and words ----------------------------------------------------------------------------------------------


def lines_of_code(file: Path) -> int:
    """Return how many lines are neither blank nor comment nor docstring."""
    text = file.read_text("utf-8")
    prose = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    numbered = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in prose for number, line in numbered)


def test_the_heart_stays_small() -> None:
    """A reader can still find the way: balancing without strategies, wire and httpx are under 2,000 lines of code."""
    heart = [file for part in ("balancing", "wire", "httpx") for file in (ROOT / part).rglob("*.py")]
    assert sum(lines_of_code(file) for file in heart if file.parent.name != "strategies") < 2000


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_say_what_they_are(file: Path) -> None:
    """Each file opens with what it is for and stays short enough to have one idea."""
    text = file.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 350


@pytest.mark.parametrize("name", [name for name in PUBLIC if name[0].isupper()])
def test_public_methods_say_what_they_do(name: str) -> None:
    """Each public method and property of a public class of ours has a docstring."""
    found = getattr(p2plb, name)
    if not inspect.isclass(found):
        return
    for attribute, value in vars(found).items():
        is_field = attribute in getattr(found, "__dataclass_fields__", ())
        if not (attribute.startswith("_") or is_field) and (inspect.isfunction(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{attribute}"


def test_modules_load() -> None:
    """Every module can be imported on its own terms: no import cycle hides behind an order."""
    for file in FILES:
        if file.name != "__main__.py":
            importlib.import_module(name_of(file))
