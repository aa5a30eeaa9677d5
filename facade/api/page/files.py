"""The web pages, read from the folder `assets`. They load nothing from other hosts."""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facade.api.documents import REVALIDATE, Document, MakeDocument, constant, failure

FOLDER = Path(__file__).with_name("assets")
MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
PAGES = {"/": "index.html", "/api": "api.html"}

_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)


def page_documents() -> dict[str, MakeDocument]:
    """The pages and the files that they load, by path; each file is read once, now."""
    assets = {file.name: _document(file) for file in sorted(FOLDER.rglob("*")) if file.suffix in (".css", ".js")}

    def asset(params: Mapping[str, Any]) -> Document:
        return assets.get(params["name"]) or failure(404, f"there is nothing at /assets/{params['name'][:100]}")

    return {"/assets/{name}": asset, **{path: constant(_document(FOLDER / name)) for path, name in PAGES.items()}}


def _document(file: Path) -> Document:
    body = file.read_bytes()
    headers = dict(REVALIDATE)  # so that browsers notice a new version at once
    if file.suffix == ".html":
        headers["Content-Security-Policy"] = content_security_policy(body)
    etag = hashlib.sha256(body).hexdigest()[:32]
    return Document(body, MEDIA_TYPES[file.suffix], headers=headers, etag=etag, gzipped=gzip.compress(body, 9, mtime=0))


def content_security_policy(page: bytes) -> str:
    """The Content-Security-Policy of a page: only our own files, and no inline script but the import map."""
    maps = " ".join(f"'sha256-{_digest(found)}'" for found in _IMPORT_MAP.findall(page))
    return (
        f"default-src 'none'; script-src 'self' {maps}".rstrip()
        + "; style-src 'self'; img-src 'self' data:; connect-src 'self'"
        "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
