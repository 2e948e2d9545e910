"""Credentials in URLs: none ever enters a manifest [SEC].

Whoever has a manifest may read it, so a URL that opens something by itself must not stand there. What is
found is named, never shown.
"""

from __future__ import annotations

import re
import string
from urllib.parse import unquote_plus

# Over these, a user name alone may be a token, as in https://<token>@host.
_TOKEN_AS_USER = frozenset({"http", "https", "ftp", "ftps"})
# fsspec's URLs in which what stands before an @ is part of a path, or owner and name of a repository.
_NO_USER_INFO = frozenset({"file", "local", "memory", "zip", "tar", "libarchive", "reference", "git", "github"})
# To fsspec, ? and # are letters of a name here.
_NO_PARAMETERS = frozenset({"file", "local"})

# Names are compared in small letters, without - and _.
_SECRETS = frozenset(
    # What services and people call them. Not session_id: copick has other things of that name.
    """
    accesskey accesskeyid accesstoken apikey apitoken auth authkey authorization authtoken bearer bearertoken
    clientassertion clientsecret credential credentials idtoken jwt key oauthtoken pass passphrase passwd password
    privatekey privatetoken pwd refreshtoken sastoken secret secretaccesskey secretkey securitytoken sessiontoken
    subscriptionkey token
    """.split()
    # Signed URLs: S3 before version 4 of its signatures, Google Cloud Storage V2, CloudFront, Azure's SAS.
    + "awsaccesskeyid googleaccessid keypairid ossaccesskeyid sig signature".split()
)
# Signed URLs of S3, Google Cloud Storage V4, and Aliyun; all their parameters are of use with the signature only.
_SECRET_FAMILIES = ("xamz", "xgoog", "xoss")
# What is of no use without the signature that stands beside it: Azure's SAS; S3, Google and CloudFront.
_COMPANIONS = {
    "sig": frozenset("saoid scid sdd se ses si sip ske skoid sks skt sktid skv sp spr sr srt ss st suoid sv".split()),
    "signature": frozenset({"expires", "policy"}),
}

# Without one of these there is neither user info nor a parameter.
_MARKS = re.compile("[@?#]")
_USER_INFO = re.compile(r"://([^/?#]*)@")
_SCHEME_LETTERS = f"{string.ascii_letters}{string.digits}+.-"
# Where one link of a chained URL ends. Elsewhere :: may stand in an IPv6 address or in a secret.
_NEXT_LINK = re.compile(r"(::(?=/|[A-Za-z][A-Za-z0-9+.\-]*(?:://|::)))")


def found_in(url: str) -> str | None:
    """What of a URL, chained ones included, is a credential, in words that do not show it; None where nothing is."""
    if not _MARKS.search(url):
        return None  # at once, for most of very many
    for match in _USER_INFO.finditer(url):
        if found := _of_user_info(match):
            return found
    for link in _NEXT_LINK.split(url):
        fields = _fields(link)[1]
        secrets = _secrets_of(fields)
        for separator, field in fields:
            at = _secret_at(field, secrets)
            if at is not None:
                name = re.split("[=?;]", field[at:], maxsplit=1)[0]
                return f"the {'fragment' if separator == '#' else 'query'} parameter {unquote_plus(name)}"
    return None


def stripped(url: str) -> str:
    """The URL without its credentials; all else stays as it is, byte for byte."""
    url = _USER_INFO.sub(lambda match: "://" if _of_user_info(match) else match[0], url)
    return "".join(_without_secrets(link) for link in _NEXT_LINK.split(url))


def _of_user_info(match: re.Match[str]) -> str | None:
    before = match.string[: match.start()]
    scheme = before[len(before.rstrip(_SCHEME_LETTERS)) :].lower().rpartition("+")[2]  # of git+https, https
    user, _, password = match[1].partition(":")
    if scheme in _NO_USER_INFO:
        return None
    if password:
        return "a password in its user info"
    return "a user name, which may be a token" if user and scheme in _TOKEN_AS_USER else None


def _fields(link: str) -> tuple[str, list[tuple[str, str]]]:
    """What comes before the parameters of a link; then each field with the separator before it: ?, & or #."""
    scheme, found, _ = link.partition("://")
    if not found or scheme.lower() in _NO_PARAMETERS:
        return link, []
    head = re.split("[?#]", link, maxsplit=1)[0]
    if head == link:
        return link, []
    # The first of ? and # begins, another ? is a letter.
    parts = [link[len(head)], *re.split("([&#])", link[len(head) + 1 :])]
    return head, list(zip(parts[::2], parts[1::2], strict=True))


def _names(field: str) -> list[tuple[int, str]]:
    """The names of the parameters in a field and where they start; some people separate them by ; or ? too."""
    found = re.finditer("(?:^|[?;])([^=?;]*)=", field)
    return [(match.start(1), re.sub("[-_]", "", unquote_plus(match[1]).strip().lower())) for match in found]


def _secrets_of(fields: list[tuple[str, str]]) -> frozenset[str]:
    """The names that are secret in a link: those that always are, and what belongs to the signatures in it."""
    names = {name for _, field in fields for _, name in _names(field)}
    return _SECRETS.union(*(_COMPANIONS[name] for name in names & _COMPANIONS.keys()))


def _secret_at(field: str, secrets: frozenset[str]) -> int | None:
    """Where in a field the first secret parameter starts; nobody knows where its value ends, but with the field."""
    for start, name in _names(field):
        if name in secrets or name.startswith(_SECRET_FAMILIES):
            return start
    return None


def _without_secrets(link: str) -> str:
    head, fields = _fields(link)
    secrets = _secrets_of(fields)
    kept = [head]
    pending = ""  # the ? or # of a field that is gone, for the one that comes in its place
    for separator, field in fields:
        lead = pending if separator == "&" and pending else separator
        at = _secret_at(field, secrets)
        rest = field if at is None else field[: max(at - 1, 0)]
        if at is not None and not rest:
            pending = lead if lead != "&" else ""
            continue
        kept.append(lead + rest)
        pending = ""
    return "".join(kept)
