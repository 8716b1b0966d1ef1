"""to-nhwc: lets a graph that computes in NCHW, as GPUs like it, compute in NHWC, as CPUs do."""

from __future__ import annotations

import graphslim as gs


@gs.register
class ToNhwc(gs.Pass):
    """Turns convolutions, pools and other ops that compute in NCHW to NHWC.

    Inputs and outputs stay as they are, behind and before a Transpose where they need one; what
    lies between takes the axes of NHWC too, so that no others are needed.

    Before:
        x = Placeholder() dtype=float32 shape=<1,3,8,8>
        w = Const() dtype=float32 value=float32[1,1,3,2]{1 2 3 4 5 6}
        y = Conv2D(x, w) T=float32 data_format="NCHW" padding="SAME" strides=[1,1,2,2]
        b = Const() dtype=float32 value=float32[2,1,1]{0.5 1.5}
        z = AddV2(y, b) T=float32
        axes = Const() dtype=int32 value=int32[2]{2 3}
        m = Mean(z, axes) T=float32 Tidx=int32 keep_dims=false

    After:
        x = Placeholder() dtype=float32 shape=<1,3,8,8>
        w = Const() dtype=float32 value=float32[1,1,3,2]{1 2 3 4 5 6}
        y = Conv2D(x/nhwc, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,2,2,1]
        z = AddV2(y, b/nhwc) T=float32
        m = Mean(z, m/nhwc_1) T=float32 Tidx=int32 keep_dims=false
        axes_to_nhwc = Const() dtype=int32 value=int32[4]{0 2 3 1}
        x/nhwc = Transpose(x, axes_to_nhwc) T=float32 Tperm=int32
        b/nhwc = Const() dtype=float32 value=float32[1,1,1,2]{0.5 1.5}
        m/nhwc_1 = Const() dtype=int32 value=int32[2]{1 2}
    """

    name = "to-nhwc"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Turns them all."""
        turned = gs.to_nhwc(graph)
        return gs.Outcome(turned > 0, (f"ops turned to NHWC: {turned}",))
