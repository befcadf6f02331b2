"""What a program may leave to its environment, and who wins."""

from typing import Any

import pytest

from p2plb.serving.environment import enabled, identity, url_of

WHERE: dict[str, Any] = {"url": None, "scheme": "http", "host": None, "port": None}
KUBERNETES = {"POD_IP": "10.1.2.3", "PORT": "8000"}


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ({}, {"PORT": "8000"}, "http://unknown.invalid:8000"),
        ({}, KUBERNETES, "http://10.1.2.3:8000"),
        ({}, KUBERNETES | {"P2PLB_PORT": "9000"}, "http://10.1.2.3:9000"),
        ({}, KUBERNETES | {"P2PLB_HOST": "10.9.9.9"}, "http://10.9.9.9:8000"),
        ({}, KUBERNETES | {"P2PLB_HOST": "fd00::1"}, "http://[fd00::1]:8000"),
        ({}, KUBERNETES | {"P2PLB_URL": "https://10.0.0.7:1"}, "https://10.0.0.7:1"),
        ({}, KUBERNETES | {"P2PLB_URL": "", "P2PLB_HOST": ""}, "http://10.1.2.3:8000"),
        ({"scheme": "https"}, KUBERNETES, "https://10.1.2.3:8000"),
        ({"port": 7}, KUBERNETES | {"P2PLB_PORT": "9000"}, "http://10.1.2.3:7"),
        ({"host": "h"}, KUBERNETES | {"P2PLB_HOST": "10.9.9.9"}, "http://h:8000"),
        ({"port": 7}, {"P2PLB_URL": "https://10.0.0.7:1"}, "http://unknown.invalid:7"),
        ({"url": "http://u:1"}, KUBERNETES | {"P2PLB_URL": "https://10.0.0.7:1"}, "http://u:1"),
    ],
)
def test_the_address(arguments: dict[str, Any], environ: dict[str, str], expected: str) -> None:
    """Arguments win, then p2plb's own variables, then those of the platform; an empty variable is none."""
    assert url_of(**WHERE | arguments, environ=environ) == expected


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"PORT": "http"}, "PORT: a port is a whole number, not 'http'"),
        ({"P2PLB_PORT": "tcp://10.0.0.1:80", "PORT": "1"}, "P2PLB_PORT: a port is a whole number"),
        ({"PORT": "0"}, "PORT: port 0 lets the system choose"),
        ({"P2PLB_HOST": "0.0.0.0", "PORT": "1"}, "P2PLB_HOST: 0.0.0.0 is no address of an instance"),
        ({"POD_IP": "169.254.1.1", "PORT": "1"}, "POD_IP: 169.254.1.1 is no address of an instance"),
        ({"POD_IP": "10.0.0.1/24", "PORT": "1"}, "POD_IP: a url is an origin"),
        ({"P2PLB_URL": "10.0.0.7:80"}, "P2PLB_URL: a url is an origin such as"),
        ({}, "give port, the one on which the server listens, or url; or set P2PLB_PORT or P2PLB_URL"),
    ],
)
def test_a_wrong_address_is_told_with_its_variable(environ: dict[str, str], text: str) -> None:
    """Whoever reads the error may have never seen the code."""
    with pytest.raises(ValueError, match=f"^{text}"):
        url_of(**WHERE, environ=environ)


def test_a_password_in_a_variable_is_not_repeated() -> None:
    """An address has no user; whoever gives one must not find the password in a log."""
    with pytest.raises(ValueError, match="without user") as caught:
        url_of(**WHERE, environ={"P2PLB_URL": "http://bob:s3cret@10.0.0.7:80"})
    assert "s3" not in str(caught.value)


def test_the_id() -> None:
    """p2plb's own variable, then the pod's name, which a StatefulSet keeps over restarts."""
    assert identity({}) is None
    assert identity({"POD_NAME": "users-0"}) == "users-0"
    assert identity({"POD_NAME": "users-0", "P2PLB_ID": "@address"}) == "@address"
    with pytest.raises(ValueError, match="POD_NAME: an instance id is 1 to 128 of the letters"):
        identity({"POD_NAME": "a/b"})


def test_the_switch() -> None:
    """P2PLB_REGISTER=0 turns registering off, and nothing else does by accident."""
    assert [enabled({"P2PLB_REGISTER": value}) for value in ("0", "1", "")] == [False, True, True]
    assert enabled({})
    with pytest.raises(ValueError, match="P2PLB_REGISTER is 0 or 1, not 'false'"):
        enabled({"P2PLB_REGISTER": "false"})
