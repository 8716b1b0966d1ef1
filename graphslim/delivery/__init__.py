"""What phones and servers run: TensorFlow Lite models, ONNX models and SavedModels of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphslim.support.importing import names_of

if TYPE_CHECKING:
    from graphslim.delivery.run import Delivery as Delivery
    from graphslim.delivery.run import deliver as deliver
    from graphslim.delivery.run import export as export
else:  # the command line knows the formats without what measures
    _PLACES = dict.fromkeys(("Delivery", "deliver", "export"), "graphslim.delivery.run")
    __getattr__ = names_of(__name__, _PLACES)

__all__ = ["Delivery", "deliver", "export"]
