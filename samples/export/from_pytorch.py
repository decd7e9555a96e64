"""PyTorch to ONNX: python samples/export/from_pytorch.py model.onnx"""

import sys

import numpy as np
import torch
from torch import nn

from onnx_shapprune.sample import sample_path

with np.load(sample_path("test.npz")) as data:  # yours: any pictures, NCHW
    x = torch.from_numpy(data["x"].astype(np.float32).transpose(0, 3, 1, 2) / 255)
    y = torch.from_numpy(data["y"].astype(np.int64))

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(16 * 7 * 7, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(6):
    for batch in torch.randperm(len(x)).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()

model.eval()  # else BatchNorm and Dropout are exported as they train
torch.onnx.export(
    model, (x[:1],), sys.argv[1], input_names=["input"], output_names=["logits"], dynamo=True, external_data=False,
    dynamic_shapes=({0: torch.export.Dim("batch")},),
)  # fmt: skip
