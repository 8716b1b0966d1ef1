"""Every architecture of tf.keras.applications, with its blocks by the architecture's definition."""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple


class Architecture(NamedTuple):
    """What the definition of an architecture says, to be compared with what is found.

    Attributes:
        expansions: bottlenecks with a 1x1 expansion, a depthwise and a linear 1x1 convolution.
        gates: squeeze-and-excitation blocks.
        size: height and width to test with, near the smallest that it takes.
        hidden: where layer norms read every convolution, the widths of the dense layers between,
            which alone can be pruned; else empty.
        source: where these numbers are from.
    """

    expansions: int
    gates: int
    size: int
    hidden: Tuple[int, ...]
    source: str

    @property
    def kinds(self) -> Dict[str, int]:
        """Blocks by kind, as a count of the blocks found gives them."""
        both = {"inverted_residual": self.expansions, "squeeze_excite": self.gates}
        return {kind: number for kind, number in both.items() if number}


def _plain(source: str, size: int = 64) -> Architecture:
    return Architecture(0, 0, size, (), source)


def _mobilenet_v3(gates: Sequence[bool]) -> Architecture:
    """Tables 1 and 2: all bottlenecks but the first expand; the column SE says which have one."""
    source = "Howard et al. 2019 (arXiv 1905.02244), tables 1 (large) and 2 (small)"
    return Architecture(len(gates) - 1, sum(gates), 64, (), source)


def _efficientnet(depth: float) -> Architecture:
    """Seven stages of MBConv; those of the first (MBConv1) do not expand, all have SE."""
    repeats = [math.ceil(depth * number) for number in (1, 2, 2, 3, 3, 4, 1)]
    source = "Tan and Le 2019 (arXiv 1905.11946), table 1, repeats scaled by the depth coefficient"
    return Architecture(sum(repeats[1:]), sum(repeats), 64, (), source)


def _efficientnet_v2(repeats: Sequence[int], depth: float = 1.0) -> Architecture:
    """The stages of MBConv, all of which expand and have SE; Fused-MBConv has neither part."""
    blocks = sum([math.ceil(depth * number) for number in repeats])
    source = (
        "Tan and Le 2021 (arXiv 2104.00298), table 4 for S; DEFAULT_BLOCKS_ARGS (conv_type 0) and "
        "depth coefficients of keras.applications.efficientnet_v2 for the rest"
    )
    return Architecture(blocks, blocks, 64, (), source)


def _convnext(depths: Sequence[int], widths: Sequence[int]) -> Architecture:
    """Blocks of a depthwise convolution, a layer norm and two dense layers, the first four wide.

    The layer norms read the trunk of each stage and every depthwise convolution.
    """
    source = f"Liu et al. 2022 (arXiv 2201.03545), section 3: depths {tuple(depths)}"
    hidden = [4 * width for depth, width in zip(depths, widths) for _ in range(depth)]
    return Architecture(0, 0, 64, tuple(hidden), source)


_V2_B = (3, 5, 8)
_NASNET = "Zoph et al. 2018 (arXiv 1707.07012), section 3: separable convolutions, no expansion"
_INCEPTION = "Szegedy et al. 2016 (arXiv 1512.00567), table 1: no depthwise convolutions"
_INCEPTION_4 = "Szegedy et al. 2017 (arXiv 1602.07261), figures 15 to 19: no depthwise convolutions"
_XCEPTION = "Chollet 2017 (arXiv 1610.02357), figure 5: separable convolutions, no expansion"
_RESNET = "He et al. 2016 (arXiv 1512.03385), table 1: no depthwise convolutions"
_RESNET_V2 = "He et al. 2016 (arXiv 1603.05027), figure 4: no depthwise convolutions"
_DENSENET = "Huang et al. 2017 (arXiv 1608.06993), table 1: no depthwise convolutions"
_VGG = "Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1: no depthwise convolutions"
_SMALL = [n != 1 and n != 2 for n in range(11)]
_LARGE = [n in (3, 4, 5, 10, 11, 12, 13, 14) for n in range(15)]

ARCHITECTURES: Dict[str, Architecture] = {
    "MobileNet": _plain("Howard et al. 2017 (arXiv 1704.04861), table 1: no expansion"),
    "MobileNetV2": Architecture(
        16, 0, 64, (), "Sandler et al. 2018 (arXiv 1801.04381), table 2: 17 bottlenecks, one t=1"
    ),
    "MobileNetV3Small": _mobilenet_v3(_SMALL),
    "MobileNetV3Large": _mobilenet_v3(_LARGE),
    "EfficientNetB0": _efficientnet(1.0),
    "EfficientNetB1": _efficientnet(1.1),
    "EfficientNetB2": _efficientnet(1.2),
    "EfficientNetB3": _efficientnet(1.4),
    "EfficientNetB4": _efficientnet(1.8),
    "EfficientNetB5": _efficientnet(2.2),
    "EfficientNetB6": _efficientnet(2.6),
    "EfficientNetB7": _efficientnet(3.1),
    "EfficientNetV2B0": _efficientnet_v2(_V2_B),
    "EfficientNetV2B1": _efficientnet_v2(_V2_B, 1.1),
    "EfficientNetV2B2": _efficientnet_v2(_V2_B, 1.2),
    "EfficientNetV2B3": _efficientnet_v2(_V2_B, 1.4),
    "EfficientNetV2S": _efficientnet_v2((6, 9, 15)),
    "EfficientNetV2M": _efficientnet_v2((7, 14, 18, 5)),
    "EfficientNetV2L": _efficientnet_v2((10, 19, 25, 7)),
    "NASNetMobile": _plain(_NASNET),
    "NASNetLarge": _plain(_NASNET),
    "InceptionV3": _plain(_INCEPTION, 96),
    "InceptionResNetV2": _plain(_INCEPTION_4, 96),
    "Xception": _plain(_XCEPTION, 96),
    "ResNet50": _plain(_RESNET),
    "ResNet101": _plain(_RESNET),
    "ResNet152": _plain(_RESNET),
    "ResNet50V2": _plain(_RESNET_V2),
    "ResNet101V2": _plain(_RESNET_V2),
    "ResNet152V2": _plain(_RESNET_V2),
    "DenseNet121": _plain(_DENSENET),
    "DenseNet169": _plain(_DENSENET),
    "DenseNet201": _plain(_DENSENET),
    "VGG16": _plain(_VGG, 32),
    "VGG19": _plain(_VGG, 32),
    "ConvNeXtTiny": _convnext((3, 3, 9, 3), (96, 192, 384, 768)),
    "ConvNeXtSmall": _convnext((3, 3, 27, 3), (96, 192, 384, 768)),
    "ConvNeXtBase": _convnext((3, 3, 27, 3), (128, 256, 512, 1024)),
    "ConvNeXtLarge": _convnext((3, 3, 27, 3), (192, 384, 768, 1536)),
    "ConvNeXtXLarge": _convnext((3, 3, 27, 3), (256, 512, 1024, 2048)),
}

EVERY_WAY = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50")
"""Tested in every way of freezing."""

LARGE = ("ConvNeXtLarge", "ConvNeXtXLarge")
"""ConvNeXtBase but for their widths; to freeze them as one file takes 13 to 20 GB of memory."""


SMALL = [
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ResNet50",
    "DenseNet121",
    "NASNetMobile",
]
"""Of each family the smallest, where that is small enough for every test run."""

SLOW_WAYS = ["session"]
"""What these ways are about is in the SavedModel as well."""


def ways_of(name: str, ways: Sequence[str]) -> List[str]:
    """The ways of freezing that an architecture is tested in, out of those there are."""
    if name in EVERY_WAY:
        return list(ways)
    return ["SavedModel" if name in LARGE else "frozen"]


def is_quick(name: str, way: str) -> bool:
    """Whether a network is of those for every test run."""
    return (name == "MobileNetV2" and way not in SLOW_WAYS) or (way == "frozen" and name in SMALL)
