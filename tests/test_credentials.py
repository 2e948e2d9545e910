"""What of a URL is a credential, and what is left without it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copick_mlc._credentials import found_in, stripped
from copick_mlc.errors import DataError

# --- what is one -----------------------------------------------------------------------------------------

# Every secret is called hush, in whatever case.
PASSWORD = "a password in its user info"
USER = "a user name, which may be a token"
SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=hush%2F2026&X-Amz-Expires=9&X-Amz-Signature=hush"


@pytest.mark.parametrize(
    ("url", "found", "left"),
    [
        ("https://user:hush@host/a", PASSWORD, "https://host/a"),
        ("https://hush@host/a?x=1", USER, "https://host/a?x=1"),
        ("https://hush:@host", USER, "https://host"),
        ("https://:hush@host", PASSWORD, "https://host"),
        ("HTTPS://hush@host", USER, "HTTPS://host"),
        ("git+https://hush@host/a", USER, "git+https://host/a"),
        ("ftp://hush@host/a", USER, "ftp://host/a"),
        ("sftp://user:hush@host/a", PASSWORD, "sftp://host/a"),
        ("s3://user:hush@bucket/a", PASSWORD, "s3://bucket/a"),
        ("https://user:hush@[::1]:80/a", PASSWORD, "https://[::1]:80/a"),
        ("https://user:hu::sh@host/a", PASSWORD, "https://host/a"),
        ("https://user:hu@hush@host/a", PASSWORD, "https://host/a"),
        ("https://proxy/https://user:hush@host/a", PASSWORD, "https://proxy/https://host/a"),
    ],
)
def test_user_info(url: str, found: str, left: str) -> None:
    assert (found_in(url), stripped(url)) == (found, left)


@pytest.mark.parametrize(
    ("query", "name", "left"),
    [
        ("?token=hush", "token", ""),
        ("?TOKEN=hush&b=2", "TOKEN", "?b=2"),
        ("?a=1&api_key=hush&b=2", "api_key", "?a=1&b=2"),
        ("?apiKey=hush&api-key=hush", "apiKey", ""),
        ("?a=1&%74oken=hush", "token", "?a=1"),
        ("?a=1;token=hush;hush", "token", "?a=1"),
        ("?a=1?token=hush?hush", "token", "?a=1"),
        ("?token=hush==&b", "token", "?b"),
        ("?flag&password=hush&", "password", "?flag&"),
        ("?key=hush#top", "key", "#top"),
        (f"?{SIGNED}", "X-Amz-Algorithm", ""),
        (f"?versionId=3&{SIGNED}&x-id=GetObject", "X-Amz-Algorithm", "?versionId=3&x-id=GetObject"),
        ("?X-Goog-Signature=hush", "X-Goog-Signature", ""),
        ("?AWSAccessKeyId=hush&Expires=9&Signature=hush", "AWSAccessKeyId", ""),
        ("?Expires=9&GoogleAccessId=hush&Signature=hush", "Expires", ""),
        ("?color=red&Policy=hush&Signature=hush&Key-Pair-Id=hush", "Policy", "?color=red"),
        ("?sv=2024-01-01&se=2026&sp=r&a=1&sig=hush", "sv", "?a=1"),
    ],
)
@pytest.mark.parametrize("prefix", ["https://host/a", "simplecache::https://host/a", "zip://x/y::https://host/a.zip"])
def test_query_parameters(prefix: str, query: str, name: str, left: str) -> None:
    assert (found_in(prefix + query), stripped(prefix + query)) == (f"the query parameter {name}", prefix + left)


def test_fragments() -> None:
    url = "https://host/a?b=1#access_token=hush&state=2"
    assert (found_in(url), stripped(url)) == ("the fragment parameter access_token", "https://host/a?b=1#state=2")
    assert stripped("https://host/a?token=hush#access_token=hush") == "https://host/a"


def test_each_link_of_a_chained_url() -> None:
    assert stripped("zip://a?token=hush::https://user:hush@host/b.zip?sig=hush") == "zip://a::https://host/b.zip"
    assert stripped("zip://a::sftp://user:hush@host/b.zip") == "zip://a::sftp://host/b.zip"
    assert stripped("https://host/a?token=hu::sh") == "https://host/a"
    # A signature in one link makes nothing of another one secret.
    assert stripped("https://host/a?Signature=hush::https://b/c?Expires=9") == "https://host/a::https://b/c?Expires=9"


# --- what is none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a/b.json",
        "/data/user:name@host/a?token=1#key=2",
        "file:///data/a?token=1",
        "s3://bucket/a@b:c/d",
        "ssh://user@host/a",
        "sftp://user@host/a",
        "sftp://user:@host/a",
        "https://@host/a",
        "https://host:8080/a@b",
        "https://host/a?user=x&mail=a:b@c",
        "https://host/a?x=token&tokens=2&keyword=3&monkey=4",
        "https://host/a?token&key",
        "https://host/a?Expires=9&se=1&sp=2&Policy=3",
        "https://host/a?versionId=3&session_id=4&continuation-token-of=5",
        "https://host/a?&&b=%20+;#top",
        "https://[::1]/a",
        "abfs://container@account.dfs.core.windows.net/a",
        "github://owner:repository@main/a",
        "git://directory:branch@main/a",
        "zip://a:b@c::/data/x.zip",
        "simplecache::memory://a:b@c",
        "git@github.com:owner/repository",
        "10.1234/zenodo.5678",
    ],
)
def test_what_is_no_credential(url: str) -> None:
    assert found_in(url) is None
    assert stripped(url) == url


# --- of any URL ------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    "a b host hush token Token key sig Signature se Expires X-Amz-Date %74oken api_key zip simplecache http https "
    "s3 sftp file github :// :: : @ / ? & # ; = + % . [ ] -".split()
)
URLS = st.one_of(st.lists(PARTS, max_size=24).map("".join), st.text(max_size=40))


@given(URLS)
@settings(deadline=None, max_examples=500)
def test_what_is_stripped_has_none(url: str) -> None:
    left = stripped(url)
    assert found_in(left) is None
    assert stripped(left) == left
    assert (left == url) is (found_in(url) is None)


WORDS = st.text("abcdefghij0123456789.~%-_", min_size=1, max_size=8)
SECRETS = st.text("KLMNOPQRSTUV0123456789!$+~=%:*-", min_size=6).filter(lambda text: "::" not in text)
NAMES = st.sampled_from(["token", "Access_Token", "API-Key", "sig", "Signature", "password", "X-Amz-Signature", "AUTH"])
OTHERS = st.lists(st.tuples(WORDS.map("x{}".format), WORDS).map("=".join), max_size=3)
CHAINS = st.sampled_from(["", "simplecache::", "zip://a/b.json::", "simplecache::zip://a::"])


@given(CHAINS, st.sampled_from(["https", "sftp", "s3", "abfs"]), WORDS, SECRETS, WORDS, OTHERS)
@settings(deadline=None, max_examples=100)
def test_a_password_is_found_and_not_shown(
    chain: str, scheme: str, user: str, secret: str, host: str, others: list[str]
) -> None:
    rest = f"{host}/a" + ("?" + "&".join(others) if others else "")
    url = f"{chain}{scheme}://{user}:{secret}@{rest}"
    assert stripped(url) == f"{chain}{scheme}://{rest}"
    assert secret not in (found_in(url) or secret)


@given(CHAINS, NAMES, SECRETS, OTHERS, OTHERS)
@settings(deadline=None, max_examples=100)
def test_a_parameter_is_found_and_not_shown(
    chain: str, name: str, secret: str, before: list[str], after: list[str]
) -> None:
    def url(parameters: list[str]) -> str:
        return f"{chain}https://host/a" + ("?" + "&".join(parameters) if parameters else "")

    whole = url([*before, f"{name}={secret}", *after])
    assert stripped(whole) == url(before + after), "the others stay, in order, byte for byte"
    assert found_in(whole) == f"the query parameter {name}"


def test_long_texts_take_no_time_to_speak_of() -> None:
    """Quadratic work on a million letters would not end; linear work is done before anybody looks."""
    parameters = "https://host/?" + "&".join(["a=1"] * 100_000)
    for text in (
        "a" * 1_000_000,
        "://" * 300_000,
        "::" * 500_000,
        "https://h/?" + "?" * 1_000_000,
        "a;" * 500_000,
        parameters,
    ):
        assert stripped(text) == text
        assert found_in(text) is None
        assert DataError("data-invalid", text).message == text
    assert stripped(parameters.replace("a", "token")) == "https://host/"
