"""SimAM's Triton kernels: right in the interpreter, compiled for a GPU without one, and chosen only where asked for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT

from yolo_attn.kernels import choice, simam
from yolo_attn.kernels.switch import VARIABLE

pytest.importorskip("triton", reason="Triton is not installed")

TOLERANCES = {"float32": 3e-6, "float16": 7e-4, "bfloat16": 8e-3}  # the interpreter cuts bfloat16 off, unrounded


@pytest.mark.integration
def test_in_the_interpreter(tmp_path):
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", VARIABLE: "1"}
    command = [sys.executable, Path(__file__).with_name("interpreted.py")]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    distances = json.loads(result.stdout)
    assert len(distances) == 3 * 6 * 5 + 3 * 5 * 6 + 5  # in float32, three sizes have gradients in six more layouts
    wrong = {case: found for case, found in distances.items() if not max(found) <= TOLERANCES[case.split()[0]]}
    assert not wrong


@pytest.mark.integration
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_compiled_for_sm_90_within_its_registers(way, tmp_path, monkeypatch):
    """No stack, no spills, no local memory; shared memory for sums alone."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    compiled = compile_kernel(way, torch.empty(16, 64, 80, 80, dtype=torch.float16, device="meta"))
    ptx = compiled.asm["ptx"]
    assert resources(ptx, tmp_path) == {"stack": 0, "stores": 0, "loads": 0}
    assert not re.search(r"\.local", ptx)
    assert compiled.metadata.shared <= 4096
    assert not re.search(r"\batom|\bred\.", ptx)  # results do not depend on who comes first


def simam_triton():
    from yolo_attn.kernels import simam_triton

    return simam_triton


def compile_kernel(way, x):
    """What a call with x would compile, ahead of time, for an H100."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(simam_triton(), f"{way}_kernel")
    options = simam_triton().plan(x, way)
    warps = options.pop("num_warps")
    kind = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[x.dtype]
    names = kernel.arg_names
    signature, constants, attributes = {}, dict(options), {}
    batch, channel, pixel = x.stride(0), x.stride(1), x.stride(3)
    numbers = {"planes": x.shape[0] * x.shape[1], "channels": x.shape[1], "count": x.shape[2] * x.shape[3]}
    for name in names:
        if name.endswith("_ptr"):
            numbers[name] = 16
            signature[name] = f"*{'fp32' if name.startswith(('mean', 'inverse')) else kind}"
        elif name in ("n", "e_lambda", "gain"):
            signature[name] = "fp32"
        elif name in options:
            signature[name] = "constexpr"
        else:
            numbers.setdefault(name, {"b": batch, "c": channel, "p": pixel}[name[-1]] if len(name) == 2 else 0)
            signature[name] = "i32"
            if numbers[name] == 1:  # what Triton makes a constant of
                signature[name], constants[name] = "constexpr", 1
    for i, name in enumerate(names):
        if name in numbers and name not in constants and numbers[name] % 16 == 0:
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})


def resources(ptx, folder):
    """Bytes of stack, spill stores and spill loads, as ptxas tells them."""
    from triton.backends.nvidia.compiler import get_ptxas

    (folder / "kernel.ptx").write_text(ptx)
    tool = get_ptxas(90) if get_ptxas.__code__.co_argcount else get_ptxas()
    tool = tool[0] if isinstance(tool, tuple) else tool
    command = [getattr(tool, "path", tool), "-v", "--gpu-name=sm_90a", folder / "kernel.ptx", "-o", folder / "kernel.o"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
    return dict(zip(("stack", "stores", "loads"), map(int, found.groups()), strict=True))


class OnCuda:
    """As much of a tensor as the choice looks at."""

    is_cuda = True

    def __init__(self, dtype):
        self.dtype = dtype


def test_chosen_only_where_asked_for(monkeypatch):
    for mode, want in (("0", False), ("auto", False), ("1", True)):
        monkeypatch.setenv(VARIABLE, mode)
        assert choice.runs_triton(OnCuda(torch.float16)) == want
        assert not choice.runs_triton(OnCuda(torch.float64))
        assert not choice.runs_triton(torch.ones(1))
    monkeypatch.setattr(choice, "has_triton", lambda: False)
    assert not choice.runs_triton(OnCuda(torch.float16))


def test_on_a_cpu_nothing_changes(monkeypatch):
    x = torch.randn(2, 3, 5, 4)
    want = simam.simam(x, 1e-4, 1.0)
    monkeypatch.setenv(VARIABLE, "1")
    assert torch.equal(simam.simam(x, 1e-4, 1.0), want)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_a_gpu(dtype, monkeypatch):
    from test_fast_simam import layouts, relative

    monkeypatch.setenv(VARIABLE, "1")
    for size in [(1, 1), (1, 7), (7, 5), (31, 31), (80, 80), (641, 480)]:
        for x in layouts((2, 3, *size), dtype, device="cuda"):
            leaf, grad = x.requires_grad_(), torch.randn_like(x)
            out = simam.simam(leaf, 1e-4, 1.4)
            out.backward(grad)
            want, mean, inverse = simam.forward(leaf.detach().double(), 1e-4, 1.4)
            dx = simam.backward(grad.double(), leaf.detach().double(), mean, inverse, 1.4)
            limit = TOLERANCES[str(dtype)[6:]]
            assert max(relative(out.detach(), want), relative(leaf.grad, dx)) <= limit


@pytest.mark.parametrize(
    ("mode", "triton", "cuda", "words"),
    [
        ("auto", True, True, "Triton kernels off, they are untried on a GPU"),
        ("1", False, True, "no Triton that can be imported"),
        ("1", True, False, "Triton kernels need a CUDA device"),
        ("1", True, True, "Triton kernels of SimAM on CUDA tensors, untried on a GPU"),
        ("0", True, True, "plain formulas only (YOLO_ATTN_KERNELS=0)"),
    ],
)
def test_what_is_reported(mode, triton, cuda, words, monkeypatch):
    monkeypatch.setenv(VARIABLE, mode)
    monkeypatch.setattr(choice, "has_triton", lambda: triton)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choice.described().endswith(words)
