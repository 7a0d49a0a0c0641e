"""RF-DETR-Seg: queries that start at the encoder's best places, refined by deformable attention (Robinson et al.,
"RF-DETR", arXiv 2511.09554), as implemented in `transformers`."""

from __future__ import annotations

from torch import Tensor
from transformers import RfDetrConfig, RfDetrForInstanceSegmentation

from serving.families.types import InstanceModel, Prediction


class RfDetr(RfDetrForInstanceSegmentation, InstanceModel):  # type: ignore[misc]  # untyped in the library
    """The library's class as the segmenter takes it."""

    adapter_targets = (
        r".*\.encoder\.layer\.\d+\..*\.(query|key|value|dense|fc1|fc2)"
        r"|model\.model\.decoder\.layers\.\d+\.(.*_proj|.*fc[12])|model\.class_embed|query_features_proj"
    )

    def __init__(self, config: RfDetrConfig) -> None:
        super().__init__(config)
        # The library looks its loss up by the name of the class.
        self.loss_type = RfDetrForInstanceSegmentation.__name__

    def answer(self, pixel_values: Tensor) -> Prediction:
        """Predict on normalised pictures float [B, 3, S, S]."""
        output = self(pixel_values=pixel_values)
        scores = output.logits.float().sigmoid()
        return Prediction(output.pred_masks.float(), scores)
