"""A GPU for machines without one: tensors that say they are on `cuda:0`, and are computed on the CPU.

An operation that a GPU would refuse, since one of its tensors is on the CPU, is refused here too, and mixed precision
chooses as it does on a GPU. Gradients are not computed: the way back mixes no devices that the way there did not.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# What takes tensors from both sides, or a CPU's positions for a GPU's values.
CROSSES = ("aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_")
READS = ("aten::_local_scalar_dense", "aten::equal")  # give the CPU an answer


class OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU."""

    @staticmethod
    def __new__(cls, held):
        facts = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, held.shape, **facts, device="cuda:0")
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})

    def __repr__(self):
        return f"OnGpu({self.held})"

    def tolist(self):
        return self.held.tolist()


class _Gpu(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


@contextmanager
def pretended_gpu(monkeypatch):
    """Let `cuda` be there inside."""
    torch._C._ensureCUDADeviceGuardSet()
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    for name in ("is_available", "is_bf16_supported"):
        monkeypatch.setattr(torch.cuda, name, lambda *arguments: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") comes by here
    try:
        with _Gpu(), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _compute(function, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    far = [isinstance(tensor, OnGpu) for tensor in tensors]
    name, on_gpu = function._schema.name, any(far)
    if kwargs.get("device") is not None:
        on_gpu = torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif name in READS:
        on_gpu = False
    elif on_gpu and name not in CROSSES:
        strangers = [tuple(t.shape) for t, is_far in zip(tensors, far, strict=True) if not is_far and t.dim()]
        if strangers:
            raise RuntimeError(f"{name}: tensors on the CPU, {strangers}, among those on the GPU")
    elif name == "aten::copy_":
        on_gpu = far[0]
    _check_positions(name, args)
    kwargs.pop("pin_memory", None)
    held = {id(_near(tensor)): tensor for tensor in tensors}
    compute = KERNELS.get(name, function)
    found = compute(*tree_map(_near, args), **tree_map(_near, kwargs))
    return tree_map(lambda result: _place(result, held, on_gpu), found)


def _near(value):
    return value.held if isinstance(value, OnGpu) else value


def _place(result, held, on_gpu):
    """The result of an operation on its device; what was changed in place is the tensor that was given."""
    if not isinstance(result, torch.Tensor):
        return result
    given = held.get(id(result))
    if given is not None and isinstance(given, OnGpu) == on_gpu:
        return given
    return OnGpu(result) if on_gpu else result


def _check_positions(name, args):
    """A CPU tensor cannot be asked for positions that a GPU holds."""
    if name in ("aten::index", "aten::index_put_") and not isinstance(args[0], OnGpu):
        assert not any(isinstance(i, OnGpu) for i in args[1]), f"{name}: positions on the GPU for a tensor on the CPU"


def _lstm_step(inputs, states, cell, bias=None, other_bias=None):
    """What one kernel does on a GPU where cuDNN does not: new state, new cell, and a buffer."""
    gates = inputs + states
    if bias is not None:
        gates = gates + bias + other_bias
    take, forget, new, give = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
    return give.sigmoid() * cell.tanh(), cell, gates


def _gru_step(inputs, states, state, bias=None, other_bias=None):
    """Likewise: new state, and a buffer."""
    if bias is not None:
        inputs, states = inputs + bias, states + other_bias
    (reset, update, new), (kept_reset, kept_update, kept_new) = inputs.chunk(3, dim=1), states.chunk(3, dim=1)
    update = (update + kept_update).sigmoid()
    new = (new + (reset + kept_reset).sigmoid() * kept_new).tanh()
    return (1 - update) * new + update * state, inputs


KERNELS = {"aten::_thnn_fused_lstm_cell": _lstm_step, "aten::_thnn_fused_gru_cell": _gru_step}
