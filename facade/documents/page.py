"""The pages for people, from files beside this module; nothing of them is asked of another host."""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facade.documents.documents import ASKED_AGAIN, Document, Make, always, failure

FOLDER = Path(__file__).with_name("page")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
PAGES = {"/": "index.html", "/api": "api.html"}

_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)


def documents() -> dict[str, Make]:
    """The pages by path, and the files that they load; read once."""
    assets = {file.name: _document(file) for file in sorted(FOLDER.rglob("*")) if file.suffix in (".css", ".js")}

    def asset(params: Mapping[str, Any]) -> Document:
        return assets.get(params["name"]) or failure(404, f"there is nothing at /assets/{params['name'][:100]}")

    return {"/assets/{name}": asset, **{path: always(_document(FOLDER / name)) for path, name in PAGES.items()}}


def _document(file: Path) -> Document:
    body = file.read_bytes()
    headers = dict(ASKED_AGAIN)  # so that a new version is seen at once
    if file.suffix == ".html":
        headers["Content-Security-Policy"] = policy(body)
    etag = hashlib.sha256(body).hexdigest()[:32]
    return Document(
        body, TYPES[file.suffix], headers=headers, etag=etag, weak=True, gzipped=gzip.compress(body, 9, mtime=0)
    )


def policy(page: bytes) -> str:
    """The Content-Security-Policy: what the page loads is ours, and its import map is the only script within it."""
    maps = " ".join(f"'sha256-{_digest(found)}'" for found in _IMPORT_MAP.findall(page))
    return (
        f"default-src 'none'; script-src 'self' {maps}".rstrip()
        + "; style-src 'self'; img-src 'self' data:; connect-src 'self'"
        "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
