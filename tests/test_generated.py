"""The httpx2 family is the httpx family under other names."""

import subprocess
import sys

import httpx

import p2plb
import p2plb.httpx
import p2plb.httpx2
from tests.families import HTTPX2, of_family
from tests.generate import COMMAND, NAMES, current, generated


def test_the_second_family_is_up_to_date() -> None:
    """Whoever changes p2plb/httpx/ writes p2plb/httpx2/ anew."""
    differ = [name for name, text in generated().items() if current().get(name) != text]
    differ += current().keys() - generated().keys()
    assert not differ, f"p2plb/httpx2/ is not what p2plb/httpx/ would give: run `{COMMAND}`"


def test_whole_words_only() -> None:
    """Names are replaced as whole words: what merely contains one stays."""
    text = "import httpx, httpcore # httpx's http2, httpx2, p2plb.httpx.base, httpx_options, _HttpxOptions"
    replaced = "import httpx2, httpcore2 # httpx2's http2, httpx2, p2plb.httpx2.base, httpx_options, _HttpxOptions"
    assert NAMES.sub(r"\g<1>2", text) == replaced


def test_both_have_the_same_names() -> None:
    """Who moves to httpx2 changes one import."""
    assert p2plb.httpx2.__all__ == p2plb.httpx.__all__
    assert all(getattr(p2plb, name) is getattr(p2plb.httpx, name) for name in p2plb.httpx.__all__)
    assert all(getattr(p2plb.httpx2, name) is not getattr(p2plb.httpx, name) for name in p2plb.httpx.__all__)


def test_without_httpx2() -> None:
    """Without httpx2 the import says what to install."""
    program = "import sys; sys.modules['httpx2'] = None; import p2plb.httpx2"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith('ImportError: p2plb.httpx2 needs httpx2: pip install "p2plb[httpx2]"\n')


def names_here() -> list[str]:
    return [httpx.__name__, p2plb.Client.__module__, helper()]


def helper() -> str:
    return p2plb.NoInstances.__module__


def test_cases_see_their_family() -> None:
    """The negative control of cases that run in both families: what they name is the second's, in helpers too."""
    assert names_here() == ["httpx", "p2plb.httpx.client", "p2plb.httpx.family"]
    assert of_family(names_here, HTTPX2)() == ["httpx2", "p2plb.httpx2.client", "p2plb.httpx2.family"]
