"""What fp32 means when PyTorch computes on an NVIDIA GPU."""

from __future__ import annotations


def plain_fp32() -> None:
    """Let PyTorch compute fp32 as fp32 on GPUs, for this process.

    By default cuDNN's convolutions round what they multiply to TF32, whose 10 bits of mantissa move logits
    by about 1e-3: ten times of what an fp32 file may be from its proof. What is to be fast is asked for as
    bf16 or fp16.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
