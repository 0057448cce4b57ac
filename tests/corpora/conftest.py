"""Tiny Debian packages with the layout of the real ones."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from PIL import Image

CONTROL = "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n"
COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2002 Somebody
License: GPL-2

Files: stamps/space/*
Copyright: NASA
License: public-domain
 Not in copyright.
"""


def png(size: tuple[int, int], colour: tuple[int, ...] = (200, 30, 30, 128), mode: str = "RGBA") -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGBA", size, colour)
    image.paste((0, 0, 255, 255), (0, 0, size[0] // 2, size[1] // 2))
    image.convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def svg(
    title: str, description: str = "", keywords: tuple[str, ...] = (), licence: str = "", language: str = "en"
) -> bytes:
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return f"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg"><title>not this one</title><metadata>
<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="">
<dc:title>{title}</dc:title><dc:description>{description}</dc:description>
<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
<dc:publisher><cc:Agent><dc:title>Publisher Name</dc:title></cc:Agent></dc:publisher>
<dc:creator><cc:Agent><dc:title>Creator Name</dc:title></cc:Agent></dc:creator>
<dc:rights><cc:Agent><dc:title>Rights Name</dc:title></cc:Agent></dc:rights>
<cc:license rdf:resource="{licence}"/><dc:language>{language}</dc:language>
</cc:Work></rdf:RDF></metadata><rect/></svg>""".encode()


CLIPART = {
    "animals/bat": (png((40, 20)), svg("bat", keywords=("mammal", "bat", "hash", "mammal"))),
    "animals/big": (png((600, 300)), svg("Ladybug", "A ladybug")),
    "animals/cut": (png((600, 300))[:200], svg("A broken picture")),
    "food/palette": (png((512, 1024), mode="P"), svg("L&amp;eacute;opard &amp;amp;amp; co", "HASH(0x85a4f2c)")),
    "food/nameless": (png((30, 30)), svg("", "   ")),
    "office/gpl": (png((30, 30)), svg("Switch", licence="http://creativecommons.org/licenses/GPL/2.0/")),
    "office/no-drawing": (png((30, 30)), None),
}
STAMPS = {
    "animals/frog.png": png((50, 50)),
    "animals/frog.txt": b"A frog.\nde.utf8=Ein Frosch.\n",
    "space/mars.png": png((300, 300), mode="L"),
    "space/mars.txt": "Mars—the red planet.\n".encode(),
    "space/mars_mirror.png": png((30, 30)),
    "space/drawn.svg": svg("x"),
    "space/drawn.txt": b"Only a drawing.\n",
}


def build_deb(
    folder: Path, name: str, files: dict[str, bytes], version: str = "1.0-1", link: tuple[str, str] | None = None
) -> None:
    tree = folder / f"tree-{name}"
    control = tree / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(CONTROL.format(name=name, version=version))
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    if link is not None:
        (tree / link[0]).symlink_to(link[1])
    deb = folder / f"{name}_{version}_all.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), str(deb)], check=True, capture_output=True
    )


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debs")
    png_root, svg_root = "usr/share/openclipart/png", "usr/share/openclipart/svg"
    images = {f"{png_root}/{name}.png": image for name, (image, _) in CLIPART.items()}
    drawings = {f"{svg_root}/{name}.svg": text for name, (_, text) in CLIPART.items() if text is not None}
    stamps = {f"usr/share/tuxpaint/stamps/{name}": content for name, content in STAMPS.items()}
    outside = folder / "secret.png"
    outside.write_bytes(png((9, 9)))
    build_deb(folder, "openclipart-png", images, link=(f"{png_root}/animals/escape.png", str(outside)))
    build_deb(folder, "openclipart-svg", {**drawings, f"{svg_root}/animals/escape.svg": svg("secret")})
    copyright_file = {"usr/share/doc/tuxpaint-stamps-default/copyright": COPYRIGHT}
    build_deb(folder, "tuxpaint-stamps-default", {**stamps, **copyright_file})
    return folder


def read_members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def read_descriptions(folder: Path) -> list[dict]:
    members = [item for tar in sorted(folder.glob("*.tar")) for item in read_members(tar).items()]
    return [json.loads(content) for name, content in members if name.endswith(".json")]
