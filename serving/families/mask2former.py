"""Mask2Former: learned queries refined by masked attention (Cheng et al., arXiv 2112.01527), as implemented in
`transformers`."""

from __future__ import annotations

from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation

from serving.families.types import InstanceModel, Prediction


class Mask2Former(Mask2FormerForUniversalSegmentation, InstanceModel):  # type: ignore[misc]  # untyped in the library
    """The library's class as the segmenter takes it. Its decoder has the queries before the batch, so that variants
    adapt the backbone and the class head alone."""

    adapter_targets = r".*\.encoder\.layers\.\d+\.blocks\.\d+\..*\.(.*_proj|fc1|fc2)|class_predictor"

    def answer(self, pixel_values: Tensor) -> Prediction:
        """Predict on normalised pictures float [B, 3, S, S]."""
        output = self(pixel_values=pixel_values)
        scores = output.class_queries_logits.float().softmax(-1)[..., :-1]
        return Prediction(output.masks_queries_logits.float(), scores)
