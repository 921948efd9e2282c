"""Small networks of the kinds a user brings, and a way to wrap them."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs


class Convolutional(nn.Module):
    """Two convolutions with batch norm, global average pooling, one linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, 2, 1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.head = nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Dense(nn.Module):
    """Concatenation, in-place ReLU after every layer, and one in place on the features' own output, as in DenseNet."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.grow = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, 1, 1))
        self.norm5 = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.norm5(torch.cat([x, self.grow(x)], 1))
        x = functional.relu(x, inplace=True)
        return self.classifier(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Vgg(nn.Module):
    """In-place ReLU and max pooling, flattened into linear layers."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 5, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(4))
        self.classifier = nn.Sequential(
            nn.Linear(5 * 64, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A tiny vision transformer with bare parameters; the head reads the class token or the mean of the patches."""

    def __init__(self, outputs: int, *, class_token: bool = True, fused: bool = False) -> None:
        super().__init__()
        width = 8
        self.patch = nn.Conv2d(1, width, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width)) if class_token else None
        self.pos_embed = nn.Parameter(torch.randn(1, 16 + class_token, width))
        layer = nn.TransformerEncoderLayer(width, 2, 16, batch_first=True, norm_first=True)
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.blocks = encoder if fused else nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.pos_embed))
        return self.head(x[:, 0] if self.cls_token is not None else x.mean(1))


NETWORKS = {
    "convolutional": Convolutional,
    "dense": Dense,
    "vgg": Vgg,
    "transformer": Transformer,
    "transformer without class token": partial(Transformer, class_token=False),
    "fused transformer": partial(Transformer, fused=True),
}


def wrap(module: nn.Module, outputs: int = 1, side: int = 32, **options) -> Classifier:
    names = tuple(f"finding {number}" for number in range(outputs))
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=names, thresholds=(0.3,) * outputs)
    spec = InputSpec(size=(side, side), mean=(0.5,), std=(0.2,))
    return Classifier(module=module.eval(), input=spec, head=head, **options)


def build(name: str, outputs: int = 3) -> Classifier:
    """A classifier around a network with seeded weights, whose normalisation has seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        module = NETWORKS[name](outputs)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for parameter, spread in ((layer.weight, 0.2), (layer.bias, 0.2), (layer.running_mean, 0.3)):
                    nn.init.normal_(parameter, float(parameter is layer.weight), spread)
                layer.running_var.uniform_(0.5, 2)
    return wrap(module, outputs)


def images(n: int = 5, side: int = 32, seed: int = 5) -> torch.Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


def hooks(module: nn.Module) -> int:
    return sum(
        len(layer._forward_hooks) + len(layer._forward_pre_hooks) + len(layer._backward_hooks)
        for layer in module.modules()
    )


@pytest.fixture
def nets() -> SimpleNamespace:
    return SimpleNamespace(build=build, wrap=wrap, images=images, hooks=hooks, names=tuple(NETWORKS))
