# SPDX-License-Identifier: PostgreSQL
"""What a page of another site has a visitor's browser send to the gateway."""

import pytest

from conftest import gateway_conninfos
from gateway import Client, Gateway, LocalClient

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.fixture(scope="module")
def open_gateway(new_dir, shop):
    """One without tokens, by port and socket."""
    made = Gateway(new_dir("gateway"), gateway_conninfos(shop),
                   {"gateway": {"tokens": "", "admin_users": ""}})
    made.config["gateway"]["listen"] += f", unix:{made.directory}/socket"
    yield made.start()
    made.close()


@pytest.mark.parametrize("host, served", [
    ("localhost", True), ("LOCALHOST:80", True), ("127.0.0.1", True),
    ("127.8.7.6:1", True), ("[::1]", True), ("[::1]:8087", True),
    ("evil.example", False), ("evil.example:8087", False), ("", False),
    ("127.0.0.1.evil.example", False), ("localhost.evil.example", False),
    ("[::1].evil.example", False), ("192.0.2.1", False), ("127.1", False),
    ("localhost:80:x", False), ("[::1", False)])
def test_names_of_this_machine(open_gateway, host, served):
    """DNS rebinding: a page's own name leads to this machine all at once."""
    client = Client(open_gateway.port, None)
    answer = client.get("/orders/o", Host=host)
    assert answer.problem == ("unknown-order" if served else "forbidden")
    if not served:
        assert "Host" in answer.json["detail"]
        assert "tokens" in answer.json["hint"]
    client.close()


@pytest.mark.parametrize("site, served", [
    ("same-origin", True), ("none", True), ("same-site", False),
    ("cross-site", False), ("", False)])
def test_sites_without_tokens(open_gateway, site, served):
    client = Client(open_gateway.port, None)
    answer = client.get("/orders/o", Sec_Fetch_Site=site)
    assert answer.problem == ("unknown-order" if served else "forbidden")
    client.close()


def test_a_socket_has_any_name(open_gateway):
    client = LocalClient(f"{open_gateway.directory}/socket")
    assert client.get("/orders/o", Host="any.example").status == 404
    client.close()
