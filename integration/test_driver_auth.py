"""The etcd drivers with users, passwords, certificates: what heals by itself, and what is refused for good."""

import logging
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from integration.harness.drivers import OVER_GRPC, gateway_only, new_driver
from integration.harness.etcd import ROOT_USER, Etcd, secured, single
from p2plb.discovery.etcd import channels, link
from p2plb.discovery.etcd.common import EtcdDriver
from p2plb.discovery.etcd.driver import Changed, Closed, Denied, Driver, Opened, Rejected, Unavailable, Want
from tests.contract_driver import LONG

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def locked() -> Iterator[Etcd]:
    """Lend an etcd that asks for passwords, and has a reader of /mine/ besides root."""
    with single() as node:
        node.lock(PASSWORD)
        node.put("/mine/1", "x")
        node.add_reader("reader", PASSWORD, "/mine/")
        yield node


def open_watch(driver: Driver, prefix: bytes) -> None:
    stream = driver.watch([Want(prefix, 1)], timeout=LONG, idle=0.05)
    assert isinstance(next(iter(stream)), Opened)
    stream.close()


def as_user(node: Etcd, user: str | None = ROOT_USER, password: str | None = PASSWORD) -> EtcdDriver:
    return new_driver([node.url], user=user, password=password)


def test_a_user_reads_and_watches(locked: Etcd) -> None:
    """F44: user and password are all it takes, for calls and for streams."""
    with closing(as_user(locked, "reader")) as driver:
        assert driver.read([b"/mine/"], timeout=LONG).entries[0].value == b"x"
        open_watch(driver, b"/mine/")


def test_what_is_forbidden_is_denied(locked: Etcd) -> None:
    """F45: a read and a watch of what is another's are denied, although etcd leaves the stream open."""
    with closing(as_user(locked, "reader")) as driver:
        with pytest.raises(Denied, match="permission denied"):
            driver.read([b"/other/"], timeout=LONG)
        with pytest.raises(Denied):
            list(driver.watch([Want(b"/other/", 1)], timeout=LONG, idle=LONG))


@pytest.mark.parametrize(("user", "password"), [(None, None), ("reader", "wrong"), ("nobody", PASSWORD)])
def test_without_the_right_password_all_is_denied(locked: Etcd, user: str | None, password: str | None) -> None:
    """F44: a missing or wrong password is permanent: denied, for calls and streams."""
    with closing(as_user(locked, user, password)) as driver:
        with pytest.raises(Denied):
            driver.read([b"/mine/"], timeout=LONG)
        with pytest.raises(Denied):
            list(driver.watch([Want(b"/mine/", 1)], timeout=LONG, idle=LONG))


def test_lost_tokens_are_renewed() -> None:
    """F44: a restarted etcd knows none of its tokens; a call and a watch log in again, once, without an error."""
    with single() as node:
        node.lock(PASSWORD)
        with closing(as_user(node)) as driver:
            driver.read([b"/"], timeout=LONG)
            node.restart()
            open_watch(driver, b"/")
            node.restart()
            driver.read([b"/"], timeout=LONG)


@gateway_only
def test_authentication_may_be_switched_live() -> None:
    """F44: the same driver works before, while and after etcd asks for a password."""
    with single() as node, closing(as_user(node)) as driver:
        driver.read([b"/"], timeout=LONG)
        node.lock(PASSWORD)
        driver.read([b"/"], timeout=LONG)
        open_watch(driver, b"/")
        node.unlock()
        driver.read([b"/"], timeout=LONG)


def test_no_credential_reaches_a_log_or_an_error(locked: Etcd, caplog: pytest.LogCaptureFixture) -> None:
    """Neither password nor token stand in what is logged at the lowest level or raised, httpcore's words included."""
    caplog.set_level(logging.DEBUG)
    with closing(as_user(locked, "reader", "wrong-secret")) as driver, pytest.raises(Denied) as denied:
        driver.read([b"/mine/"], timeout=LONG)
    with closing(as_user(locked, "reader")) as driver:
        driver.read([b"/mine/"], timeout=LONG)
        token = driver._session.token(0.0)
        with pytest.raises(Denied) as forbidden:
            driver.read([b"/other/"], timeout=LONG)
    said = caplog.text + str(denied.value) + str(forbidden.value)
    for secret in (PASSWORD, "wrong-secret", token):
        assert secret not in said


def test_tls_with_an_authority_of_ones_own() -> None:
    """`ca` makes the server trusted; without it the connection fails, and says why."""
    with secured() as (node, files):
        with closing(new_driver([node.url], **files)) as driver:
            driver.read([b"/"], timeout=LONG)
            open_watch(driver, b"/")
        with closing(new_driver([node.url])) as stranger:
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED") as failure:
                stranger.read([b"/"], timeout=LONG)
            assert not failure.value.ambiguous


def test_client_certificates() -> None:
    """`cert` and `key` open an etcd that asks for certificates; a file that can't be read is named."""
    with secured(client_certificates=True) as (node, files):
        with closing(new_driver([node.url], **files)) as driver:
            node.put("/1")
            stream = driver.watch([Want(b"/", 1)], timeout=LONG, idle=LONG)
            frames = iter(stream)
            assert [type(next(frames)), type(next(frames))] == [Opened, Changed]
        for wrong in ({"ca": files["ca"]}, {**files, "cert": "/no/such.pem"}):
            named = pytest.raises(Unavailable, match="such.pem" if "cert" in wrong else None)
            with closing(new_driver([node.url], **wrong)) as other, named:
                other.read([b"/"], timeout=LONG)


def test_close_ends_a_tls_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """F79: a server that takes the connection and never shakes hands does not keep a closed driver."""
    monkeypatch.setattr(link, "_TIMEOUTS", {})  # else it would end after 2 s by itself
    monkeypatch.setattr(channels, "_OPTIONS", (("grpc.min_reconnect_backoff_ms", 600_000),))
    with socket.create_server(("127.0.0.1", 0)) as mute, ThreadPoolExecutor(1) as pool:
        driver = new_driver([f"https://127.0.0.1:{mute.getsockname()[1]}"])
        reading = pool.submit(driver.read, [b"/"], timeout=9 * LONG)
        connection, _ = mute.accept()
        with connection:
            assert connection.recv(1)  # the client's hello: it is in the handshake
            driver.close()
            assert isinstance(reading.exception(LONG), Closed)


def test_renewed_certificates_count_at_the_next_connection(tmp_path: Path) -> None:
    """Files are read again for each new connection: an authority, a certificate and a key that come later do."""
    with secured(client_certificates=True) as (node, good):
        authority = trustme.CA()
        files = {name: str(tmp_path / f"{name}.pem") for name in good}
        authority.cert_pem.write_to_path(files["ca"])
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(files["key"])
        issued.cert_chain_pems[0].write_to_path(files["cert"])
        with closing(new_driver([node.url], **files)) as driver:
            for renewed in (("ca",), ("cert", "key")):
                with pytest.raises(Unavailable):
                    driver.read([b"/"], timeout=LONG)
                for name in renewed:
                    shutil.copy(good[name], files[name])
            driver.read([b"/"], timeout=LONG)


@gateway_only
def test_a_file_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    """What is missing at the start is named by each call that fails, until it is there."""
    with secured() as (node, good), closing(new_driver([node.url], ca=str(tmp_path / "late.pem"))) as driver:
        with pytest.raises(Unavailable, match=r"can't use the TLS files .*late\.pem"):
            driver.read([b"/"], timeout=LONG)
        shutil.copy(good["ca"], tmp_path / "late.pem")
        driver.read([b"/"], timeout=LONG)


@gateway_only
def test_a_file_that_is_lost_is_not_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """F75: what was read last stands in for what can't be read any more, with one warning."""
    ca = tmp_path / "ca.pem"
    minutes = 0

    def clock() -> float:
        return time.monotonic() + 61 * minutes

    with secured() as (node, good):
        shutil.copy(good["ca"], ca)
        with closing(new_driver([node.url], ca=str(ca), clock=clock)) as driver:
            driver.read([b"/"], timeout=LONG)
            ca.unlink()
            for _ in range(2):
                minutes += 1  # no connection is kept for so long
                driver.read([b"/"], timeout=LONG)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "what was read last stands in" in warning.getMessage()


@gateway_only
def test_a_password_file_is_read_at_each_login(tmp_path: Path) -> None:
    """F44: a password may come late and be changed, in etcd and in the file, under a running driver."""
    file = tmp_path / "password"
    with single() as node:
        node.lock(PASSWORD)
        with closing(new_driver([node.url], user=ROOT_USER, password_file=str(file))) as driver:
            with pytest.raises(Unavailable, match="can't use the password file"):
                driver.read([b"/"], timeout=LONG)
            file.write_text(f"{PASSWORD}\n")
            driver.read([b"/"], timeout=LONG)
            file.write_text("another horse")
            node.set_password(ROOT_USER, "another horse")
            driver.read([b"/"], timeout=LONG)


def test_the_name_of_a_certificate_is_a_user(tmp_path: Path) -> None:
    """With --client-cert-auth gRPC passes the certificate's name on as the user; the gateway refuses, and says so."""
    authority = trustme.CA()
    with secured(client_certificates=True, authority=authority) as (node, files):
        node.lock(PASSWORD)
        node.put("/mine/1", "x")
        node.add_reader("reader", PASSWORD, "/mine/")
        issued = authority.issue_cert("127.0.0.1", common_name="reader")
        named = str(tmp_path / "named.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(named)
        with closing(new_driver([node.url], ca=files["ca"], cert=named, key=named)) as driver:
            if not OVER_GRPC:
                with pytest.raises(Denied, match=r"CommonName.*write etcd\+grpc://"):
                    driver.read([b"/mine/"], timeout=LONG)
                return
            assert driver.read([b"/mine/"], timeout=LONG).entries[0].value == b"x"
            open_watch(driver, b"/mine/")
            with pytest.raises(Denied):
                driver.read([b"/other/"], timeout=LONG)


def test_an_etcd_without_its_gateway() -> None:
    """With --enable-grpc-gateway=false, or at another port, a 404 says what to do; gRPC needs no gateway."""
    with single(["--enable-grpc-gateway=false"]) as node, closing(new_driver([node.url])) as driver:
        if OVER_GRPC:
            assert driver.read([b"/"], timeout=LONG).revision
            return
        with pytest.raises(Rejected, match=r"--enable-grpc-gateway=false.*etcd\+grpc://.*client port"):
            driver.read([b"/"], timeout=LONG)
        with pytest.raises(Rejected, match="404"):
            list(driver.watch([Want(b"/", 1)], timeout=LONG, idle=LONG))
        metrics = f"http://127.0.0.1:{node.metrics_port}"
        with closing(new_driver([metrics])) as astray, pytest.raises(Rejected, match="not its client port"):
            astray.read([b"/"], timeout=LONG)
