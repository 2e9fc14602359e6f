"""What PyTorch users bring: three networks trained a little on CIFAR-10, exported to ONNX both ways, and quantised by ONNX Runtime.

    python tools/torch_nets.py CIFAR10.npz FOLDER        (in an environment with torch, torchvision, onnxscript and onnxruntime)

Each of cnn, mobilenet_v2 and mobilenet_v3_small (torchvision's, MobileNetV2 at width .25; ten classes, 32 x 32, pixels p / 255) becomes

    NAME-float.onnx        torch.onnx.export(dynamo=True), torch's default, with its weights in NAME-float.onnx.data
    NAME-script.onnx       torch.onnx.export(dynamo=False)
    NAME-qdq.onnx          quantize_static, QDQ, per channel, int8
    NAME-qoperator.onnx    quantize_static, QOperator, per channel, uint8 and int8
    NAME-dynamic.onnx      quantize_dynamic

CIFAR10.npz holds x_train, y_train, x_test, y_test: (n, 32, 32, 3) uint8 and int64.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]
import torchvision  # type: ignore[import-not-found]
from onnxruntime import quantization
from torch import nn

STEPS = {"cnn": 1170, "mobilenet_v2": 250, "mobilenet_v3_small": 500}  # of 128 images


def cnn() -> nn.Module:
    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(64 * 16, 10))


NETWORKS: dict[str, Any] = {
    "cnn": cnn,
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.25),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
}


class Images(quantization.CalibrationDataReader):
    def __init__(self, x: np.ndarray) -> None:
        self.rest = iter(x[i : i + 1] for i in range(len(x)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        x = next(self.rest, None)
        return None if x is None else {"image": x}


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    network.train()
    for step in range(steps):
        at = torch.randint(len(x), (128,))
        batch = x[at].flip(3) if step % 2 else x[at]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batch), y[at]).backward()
        optimizer.step()
        schedule.step()
    network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=list(NETWORKS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    content = np.load(options.data)
    x, x_test = (torch.tensor(content[k]).permute(0, 3, 1, 2).float() / 255 for k in ("x_train", "x_test"))
    y, y_test = (torch.tensor(content[k]) for k in ("y_train", "y_test"))
    for name, make in NETWORKS.items():
        if options.only in (None, name):
            torch.manual_seed(0)
            network, start = make(), time.perf_counter()
            train(network, x, y, STEPS[name])
            with torch.no_grad():
                right = float((torch.cat([network(b).argmax(1) for b in x_test.split(500)]) == y_test).float().mean())
            print(f"{name}: {right:.3f} of the test images right after {time.perf_counter() - start:.0f} s", file=sys.stderr)
            write(name, network, x[:200].numpy(), options.folder)


def write(name: str, network: nn.Module, calibration: np.ndarray, folder: Path) -> None:
    image, names = torch.zeros(1, 3, 32, 32), {"input_names": ["image"], "output_names": ["scores"]}
    torch.onnx.export(network, (image,), folder / f"{name}-float.onnx", dynamo=True, **names)
    torch.onnx.export(network, (image,), folder / f"{name}-script.onnx", dynamo=False, **names)
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch) / "ready.onnx"
        quantization.shape_inference.quant_pre_process(folder / f"{name}-script.onnx", ready)
        form, kind = quantization.QuantFormat, quantization.QuantType
        for end, as_form, activations in (("qdq", form.QDQ, kind.QInt8), ("qoperator", form.QOperator, kind.QUInt8)):
            quantization.quantize_static(
                ready,
                folder / f"{name}-{end}.onnx",
                Images(calibration),
                quant_format=as_form,
                per_channel=True,
                activation_type=activations,
                weight_type=kind.QInt8,
            )
        quantization.quantize_dynamic(ready, folder / f"{name}-dynamic.onnx", weight_type=kind.QUInt8)


if __name__ == "__main__":
    main()
