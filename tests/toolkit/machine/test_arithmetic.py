"""fp32 on a GPU is fp32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from toolkit.machine.arithmetic import plain_fp32

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def test_no_product_is_rounded_to_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default
    plain_fp32()
    assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cuda.matmul.allow_tf32 is False


@pytest.mark.gpu
def test_a_convolution_on_a_gpu_is_as_exact_as_on_a_cpu() -> None:
    plain_fp32()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 32, 32, generator=random)
    weight = torch.randn(64, 64, 3, 3, generator=random) / 24
    found = torch.conv2d(x.cuda(), weight.cuda()).cpu()
    exact = torch.conv2d(x.double(), weight.double())
    # TF32 is off by about 2e-3 here, fp32 by 2e-6
    assert float((found - exact).abs().max()) < 5e-5
