"""Images from URIs that users name: nothing is asked that this machine's place in the network would lend them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from cellcloud import errors
from cellcloud.embedded.web_download import MOST_REDIRECTS, WebDownloadRules, check_uri, download, make_rules
from tests.web_site import WebSite, web_site

STRICT = WebDownloadRules()
OPEN = WebDownloadRules(networks=(ipaddress.ip_network("127.0.0.1/32"),), ports=frozenset())
BODY = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def site() -> Iterator[WebSite]:
    with web_site() as made:
        yield made


def got(uri: str, rules: WebDownloadRules = OPEN) -> bytes:
    return b"".join(download(uri, rules))


def refused(uri: str, rules: WebDownloadRules = OPEN) -> str:
    with pytest.raises(errors.Invalid) as caught:
        got(uri, rules)
    return caught.value.message


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://",
        "http:///path",
        "//example.org/x",
        "example.org/x",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "gopher://example.org/",
        "javascript:x",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://example.org@127.0.0.1/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/a b",
        "http://example.org/a\r\nHost: other",
        "http://example.org/\x00",
        "http://exämple.org/",
        "http://example.org:22/",
        "http://example.org:8080/",
        "http://example.org:0/",
        "http://example.org:port/",
        "http://example.org:99999/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://" + "a" * 3000,
        "http://127.0.0.1/",
        "http://127.255.255.254/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
    ],
)
def test_what_may_not_be_asked_by_its_form(uri: str) -> None:
    with pytest.raises(errors.Invalid, match="does not pass filtering"):
        check_uri(uri, STRICT)


@pytest.mark.parametrize(
    "uri", ["http://example.org", "https://example.org/a?b=c#d", "http://[2600::1]/", "http://1.1.1.1/"]
)
def test_what_may_be_asked(uri: str) -> None:
    check_uri(uri, STRICT)


@pytest.mark.parametrize("name", ["localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_a_name_that_means_this_machine_is_refused(name: str) -> None:
    assert "does not pass filtering" in refused(f"http://{name}/", STRICT)


def test_one_forbidden_address_of_a_name_is_enough(site: WebSite) -> None:
    uri = site.serve("/x", BODY).replace("127.0.0.1", "images.example")
    before = len(site.asked)
    for addresses in (["127.0.0.1", "127.0.0.2"], ["::1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"]):
        rules = replace(OPEN, look_up=lambda name, found=addresses: found)  # type: ignore[misc]
        assert "does not pass filtering" in refused(uri, rules)
    assert len(site.asked) == before


def test_a_name_is_looked_up_once_and_that_address_is_asked(site: WebSite) -> None:
    uri = site.serve("/pinned", BODY).replace("127.0.0.1", "images.example")
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    assert got(uri, replace(OPEN, look_up=lambda name: next(answers))) == BODY
    assert site.asked[-1] == ("/pinned", uri.split("/")[2])
    assert next(answers) == ["10.0.0.1"]


def test_own_addresses_are_refused_even_where_they_are_the_internets(site: WebSite) -> None:
    own = replace(STRICT, ports=frozenset())
    assert not own.allows(ipaddress.ip_address("127.0.0.1"))
    assert own.allows(ipaddress.ip_address("1.1.1.1"))


def test_a_redirect_is_judged_like_the_first_uri(site: WebSite) -> None:
    target = site.serve("/target", BODY)
    assert got(site.serve("/relative", b"", 302, Location="/target")) == BODY
    assert got(site.serve("/absolute", b"", 307, Location=target)) == BODY
    for where in (
        "http://127.0.0.2/x",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "http://a@b/",
        "http://localhost6/",
    ):
        assert refused(site.serve("/away", b"", 301, Location=where))
    refused(site.serve("/loop", b"", 302, Location="/loop"))
    assert site.asked[-MOST_REDIRECTS - 1 :] == [("/loop", site.asked[-1][1])] * (MOST_REDIRECTS + 1)


@pytest.mark.parametrize(
    ("path", "status", "headers", "words"),
    [
        ("/404", 404, {}, "404"),
        ("/206", 206, {}, "206"),
        ("/302", 302, {}, "302"),
        ("/short", 200, {"Content-Length": str(len(BODY) + 1)}, "did not send"),
        ("/packed", 200, {"Content-Encoding": "gzip"}, "packed"),
        ("/chunked", 200, {"Transfer-Encoding": "chunked"}, "did not send"),
    ],
)
def test_other_answers_than_the_whole_image(
    site: WebSite, path: str, status: int, headers: dict[str, str], words: str
) -> None:
    assert words in refused(site.serve(path, BODY, status, **headers))


def test_a_site_that_is_not_there() -> None:
    with web_site() as gone:
        uri = gone.url
    assert "cannot be reached" in refused(f"{uri}/x")
    assert "is not known" in refused("http://name.invalid/x", replace(OPEN, look_up=_nobody))


def _nobody(name: str) -> list[str]:
    raise OSError("no such name")


def test_a_site_that_keeps_one_waiting_is_left(site: WebSite) -> None:
    """In the head, in the body, and one byte at a time."""

    def silent(request: BaseHTTPRequestHandler) -> None:
        site.over.wait(60)

    def dripping(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not site.over.wait(0.02):
            request.wfile.write(b"x")

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not site.over.wait(0.02):
            request.wfile.write(b"X")

    for path, answer in (("/silent", silent), ("/dripping", dripping), ("/endless", endless)):
        site.pages[path] = answer
        assert "took too long" in refused(f"{site.url}{path}", replace(OPEN, seconds=0.3))


def test_a_site_must_prove_its_name() -> None:
    with web_site() as plain:
        uri = plain.url.replace("http:", "https:")
        assert "cannot be reached" in refused(uri)


def test_options_that_are_not_understood() -> None:
    assert make_rules(["10.0.0.0/8", "fd00::/8"], ["80"], 5.0).allows(ipaddress.ip_address("fd00::1"))
    for networks, ports in ((["here"], []), ([], ["http"]), (["10.0.0.1/8"], [])):
        with pytest.raises(errors.Misconfigured):
            make_rules(networks, ports, 5.0)
