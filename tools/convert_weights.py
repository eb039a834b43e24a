#!/usr/bin/env python3
"""Convert network weights between PyTorch (.pth, .pt) and safetensors, both ways.

    python3 convert_weights.py weights.pth weights.safetensors
    python3 convert_weights.py weights.safetensors weights.pth

Needs PyTorch only. A .pth file is a state dictionary, or a checkpoint that holds one under "state_dict", "model" or "net".
The prefix "module." of data-parallel networks is dropped.
"""

import json
import os
import pickle
import struct
import sys

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_pth(path):
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise ValueError(f"{path}: found something else, expected a file of tensors written by torch.save") from None
    for key in ("state_dict", "model", "net"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: found {type(loaded).__name__}, expected a state dictionary")
    state = {}
    for name, tensor in loaded.items():
        if not torch.is_tensor(tensor) or tensor.dtype not in NAMES:
            found = tensor.dtype if torch.is_tensor(tensor) else type(tensor).__name__
            raise ValueError(f"{path}: {name}: found {found}, expected a tensor of one of {', '.join(NAMES.values())}")
        state[name[len("module.") :] if name.startswith("module.") else name] = tensor
    return state


def write_safetensors(state, path):
    """Little-endian header length (8 bytes), JSON header padded with spaces to a multiple of 8, then the tensors' bytes."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in state.items():
        blob = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        span = [offset, offset + len(blob)]
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for blob in blobs:
            file.write(blob)


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else len(data)
    if 8 + length > len(data):
        raise ValueError(f"{path}: header: found a file of {len(data)} bytes, expected at least {8 + length}")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    state = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if not 8 + length <= begin <= end <= len(data):
            raise ValueError(f"{path}: {name}: found data up to byte {end}, expected at most {len(data)}")
        # A copy, because the bytes of a file are read-only and may lie at an odd address.
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]]) if end > begin else torch.empty(0)
        state[name] = flat.to(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return state


def main():
    if len(sys.argv) != 3 or sum(path.endswith(".safetensors") for path in sys.argv[1:]) != 1:
        sys.exit("usage: convert_weights.py SOURCE TARGET, one of them ending in .safetensors, the other in .pth or .pt")
    source, target = sys.argv[1:]
    partial = target + ".partial"
    try:
        if source.endswith(".safetensors"):
            state = read_safetensors(source)
            torch.save(state, partial)
        else:
            state = read_pth(source)
            write_safetensors(state, partial)
        os.replace(partial, target)
    except (OSError, ValueError, KeyError) as error:
        if os.path.exists(partial):
            os.remove(partial)
        sys.exit(f"convert_weights.py: {error}")
    print(f"{target}: {len(state)} tensors, {sum(tensor.numel() for tensor in state.values())} values")


if __name__ == "__main__":
    main()
