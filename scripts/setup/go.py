"""Puts a pinned Go toolchain into a folder, whole or not at all, from a module proxy that GOPROXY names, or from go.dev.

    python3 scripts/setup/go.py LIST PLATFORM FOLDER      # LIST: scripts/setup/go.txt
"""

import base64
import hashlib
import http.client
import os
import re
import shutil
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile

DIRECT = "https://go.dev/dl/mod"  # where the module golang.org/toolchain says that it lies


def proxies():
    """The proxies that GOPROXY lists, in order; "direct", and no GOPROXY, are the module's own place."""
    names = [n.strip().rstrip("/") for n in re.split("[,|]", os.environ.get("GOPROXY") or "direct")]
    return [DIRECT if n == "direct" else n for n in names if n not in ("", "off")]


def open_url(url):
    """Opens a URL; a name and password in it are sent as the go command sends them."""
    parts = urllib.parse.urlsplit(url)
    headers = {}
    if parts.username:
        secret = urllib.parse.unquote(parts.username) + ":" + urllib.parse.unquote(parts.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return urllib.request.urlopen(urllib.request.Request(parts.geturl(), headers=headers), timeout=60)


def download(path, target, want):
    """Takes PATH from the first proxy that has it; the bytes must have the SHA-256 sum `want`."""
    problems = []
    for proxy in proxies():
        digest = hashlib.sha256()
        try:
            with open_url(proxy + "/" + path) as source, open(target, "wb") as file:
                for block in iter(lambda: source.read(1 << 20), b""):
                    digest.update(block)
                    file.write(block)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems.append(str(error))
            continue
        if digest.hexdigest() == want:
            return
        problems.append(f"SHA-256 is {digest.hexdigest()}, want {want}")
    sys.exit("setup.sh: could not fetch Go: " + ("; ".join(problems) or "GOPROXY names no proxy") + "; run it again, or install Go")


def unpack(archive, prefix, folder):
    """Unpacks a toolchain's module: programs get their execute bits and go.mod files their names, as the go command does."""
    with zipfile.ZipFile(archive) as files:
        for info in files.infolist():
            if not info.filename.startswith(prefix) or info.is_dir():
                continue
            name = re.sub(r"(^|/)_go\.mod$", r"\1go.mod", info.filename[len(prefix):])
            target = os.path.join(folder, *name.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with files.open(info) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
            if re.match(r"bin/|pkg/tool/|lib/go_[^/]*_exec$", name):
                os.chmod(target, 0o755)


def main(list_file, platform, folder):
    version, want = "", ""
    with open(list_file, encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["version"]:
                version = words[1]
            if words[:1] == [platform]:
                want = words[1]
    if not want:
        sys.exit(f"setup.sh: {list_file} has no Go for {platform}: install it")
    module = f"v0.0.1-go{version}.{platform}"
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".go.", dir=parent) as work:
        archive = os.path.join(work, "go.zip")
        download(f"golang.org/toolchain/@v/{module}.zip", archive, want)
        made = os.path.join(work, "go")
        unpack(archive, f"golang.org/toolchain@{module}/", made)
        if not os.path.exists(os.path.join(folder, "bin", "go")):  # another set-up may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(made, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
