#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks who includes whom: the layers server > predictor > weights > common, and the library
walls.

Prints one line a violation; exit status 1 if there is any.
"""

import pathlib
import re
import sys

# Each may include itself and what stands before.
LAYERS = ("common", "weights", "predictor", "server")
# Folders of server/ from the bottom: each may include itself and those named behind it.
SERVER_FOLDERS = {
    "trace": (), "http": ("trace", ), "fetch": ("trace", ), "jobs": ("fetch", "trace"),
    "api": ("http", "fetch", "jobs", "trace"), "playground": ("http", ),
    "cli": ("http", "fetch", "jobs", "api", "playground", "trace"),
}

NO_JSON = ("predictor/", "server/jobs/", "server/fetch/", "server/http/", "server/playground/")

# Library: (pattern of its headers, the only files or folders that may include them).
WALLS = {
    "cpp-httplib": (r"httplib\.h", ("server/http/response_writer.cc",)),
    "libcurl": (r"curl/", ("server/fetch/",)),
    "libtorch": (r"(torch|ATen|c10|caffe2)/", ("predictor/ops/", "predictor/model/",
                                               "weights/cut_tensor", "weights/device_copies",
                                               "weights/module_loader",
                                               "weights/script_check")),
    "CUDA": (r"(cuda|cublas|cudnn|nccl|cub/|thrust/)", ("predictor/ops/", "predictor/model/")),
    "image codecs": (r"(gif_lib|png|tiff|tiffio|jpeglib|turbojpeg)\.h|webp/|avif/",
                     ("predictor/images/",)),
    "zlib": (r"zlib\.h", ("predictor/images/", "server/playground/embed.cc")),
    "nlohmann_json": (r"nlohmann/", ("server/", "weights/manifest.", "weights/safetensors.")),
    "spdlog": (r"(spdlog|fmt)/", ("common/log.cc",)),
    "CLI11": (r"CLI/", ("server/cli/",)),
    "sentencepiece": (r"sentencepiece", ("predictor/text/sentencepiece_model.cc",)),
    "OpenSSL": (r"openssl/", ("common/sha256.cc",)),
    "Catch2": (r"catch2/", ()),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def sources():
    return sorted(
        str(path) for folder in (*LAYERS, "tests") for path in pathlib.Path(folder).rglob("*")
        if path.suffix in (".h", ".cc", ".cu", ".cuh"))


def wrong_server_folder(path, header):
    """server/jobs knows no HTTP and no API; server/http knows nobody but server/trace."""
    here, there = (name.split("/")[1] for name in (
        path, header)) if path.startswith("server/") and header.startswith("server/") else ("", "")
    if here in SERVER_FOLDERS and there != here and there not in SERVER_FOLDERS[here]:
        yield f"{path} includes {header}: server/{here} must not know server/{there}"


def violations(path, text):
    layer = path.split("/")[0]
    for bracket, header in INCLUDE.findall(text):
        if bracket == '"' and header.split("/")[0] in LAYERS:
            target = header.split("/")[0]
            if layer in LAYERS and LAYERS.index(target) > LAYERS.index(layer):
                yield f"{path} includes {header}: {layer} must not know {target}"
            yield from wrong_server_folder(path, header)
        elif (bracket == '"' and layer in LAYERS
              and not any(pathlib.Path(header + made).exists() for made in ("", ".in"))):
            yield f'{path} includes "{header}": name our headers by their path from the root'
        if layer not in LAYERS:
            continue
        if header.startswith("nlohmann/") and path.startswith(NO_JSON):
            yield (f"{path} includes {header}: JSON never reaches the predictor, nor the jobs "
                   f"above it")
            continue
        for library, (pattern, allowed) in WALLS.items():
            if re.match(pattern, header) and bracket == "<" and not path.startswith(allowed or "/"):
                where = ", ".join(allowed) or "tests/"
                yield f"{path} includes {header}: {library} may be included only in {where}"


def main():
    found = [line for path in sources()
             for line in violations(path, pathlib.Path(path).read_text())]
    print("\n".join(found) or "includes: every layer and wall holds")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
