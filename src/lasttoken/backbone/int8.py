"""A frozen weight in 8 bits, with a scale for each token and one for each output.

    y = (q_x - 128) · q_wᵀ · s_x · s_w + b
    s_x = max|x| / 127,  q_x = round(x / s_x) + 128  (uint8)        s_w, q_w likewise (int8, symmetric)

A scale belongs to one token, so the prediction for a text does not depend on its batch. (With one scale for the whole
tensor, as in torch's own dynamic quantization, it would.) Sums are exact in 32-bit integers.
Source: Dettmers et al. 2022, *LLM.int8()*, section 2 (row- and column-wise absmax quantization).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lasttoken.backbone import onednn
from lasttoken.backbone.half import to_float32

TINY = 1e-12  # a row whose largest number is below it is treated as zeros


class Int8Weight:
    """A weight [out, in] as 8-bit integers with a scale for each output."""

    @torch.no_grad()
    def __init__(self, weight: Tensor) -> None:
        weight = to_float32(weight)
        scales = weight.abs().amax(1).clamp_min(TINY) / 127
        integers = (weight / scales[:, None]).round().to(torch.int8).contiguous()
        self.scales = scales.float()
        self.zeros = torch.zeros(len(scales), dtype=torch.int32)
        self.packed = onednn.pack_int8_weight(integers) if onednn.int8_passes() else integers.t().double()

    @torch.no_grad()
    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x · weightᵀ + bias, [n, in] -> [n, out] in float32."""
        scales = x.abs().amax(1, keepdim=True).clamp_min_(TINY).mul_(1 / 127)
        quantized = (x / scales).add_(128.5).to(torch.uint8)  # the cast rounds down
        if passes := onednn.int8_passes():
            rows = onednn.pad_rows(quantized)
            y = onednn.multiply_int8(rows, self.packed, self.scales, self.zeros, passes)[: len(x)]
        else:
            y = ((quantized.double() - 128) @ self.packed).float() * self.scales
        return y * scales if bias is None else torch.addcmul(bias, y, scales)
