"""rnnfast.torch against torch.nn: outputs, gradients, PackedSequence, autograd's and the compiler's rules."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import rnnfast.torch as ours  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence  # noqa: E402

NAMES = ["RNN", "LSTM", "GRU"]
N, T, D, H = 4, 6, 5, 7
LENGTHS = [2, 6, 1, 3]


def pair(name: str, *arguments: Any, dtype: Any = torch.float64, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs = getattr(nn, name)(*arguments, **options).to(dtype)
    module = getattr(ours, name)(*arguments, **options).to(dtype)
    module.load_state_dict(theirs.state_dict())
    return module, theirs


def given(kind: str, x: Any, batch_first: bool) -> Any:
    if kind == "alone":
        return x[0] if batch_first else x[:, 0]
    return x if kind == "dense" else pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=kind == "sorted")


def results(module: Any, kind: str, x: Any, hx: Any) -> dict[str, Any]:
    """Outputs and all gradients of one step; the loss weighs each number differently."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    states = None if hx is None else tuple(s.clone().requires_grad_() for s in hx)
    lstm = module.mode == "LSTM"
    output, final = module(given(kind, x, module.batch_first), states if lstm or states is None else states[0])
    data = output.data if isinstance(output, PackedSequence) else output
    final = final if lstm else (final,)
    loss = sum((a * torch.linspace(0.3, 1, a.numel(), dtype=a.dtype).view(a.shape)).sum() for a in (data, *final))
    loss.backward()
    named = {"output": data, "dx": x.grad} | {f"final[{k}]": s for k, s in enumerate(final)}
    named |= {f"dhx[{k}]": s.grad for k, s in enumerate(states or ())}
    return named | {name.removeprefix("_orig_mod."): p.grad for name, p in module.named_parameters()}


def assert_same(actual: dict[str, Any], expected: dict[str, Any], dtype: Any) -> None:
    assert actual.keys() == expected.keys()
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for name in actual:
        torch.testing.assert_close(actual[name], expected[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["dense", "packed", "sorted", "alone"])
@pytest.mark.parametrize("name", NAMES)
def test_what_torch_computes(name: str, kind: str, dtype: Any) -> None:
    torch.manual_seed(1)
    lengths = sorted(LENGTHS, reverse=True) if kind == "sorted" else LENGTHS
    for options in (
        {},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"num_layers": 3, "bias": False},
        {"bidirectional": True, "batch_first": True, "bias": False},
        *([{"nonlinearity": "relu"}] if name == "RNN" else []),
    ):
        module, theirs = pair(name, D, H, dtype=dtype, **options)
        first = module.batch_first
        x = torch.randn((N, T, D) if first else (T, N, D), dtype=dtype)
        rows = module.num_layers * (2 if module.bidirectional else 1)
        shape = (rows, H) if kind == "alone" else (rows, N, H)
        for hx in (None, tuple(torch.randn(shape, dtype=dtype) for _ in range(2 if name == "LSTM" else 1))):
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(globals(), "LENGTHS", lengths)
                assert_same(results(module, kind, x, hx), results(theirs, kind, x, hx), dtype)


@pytest.mark.parametrize("name", NAMES)
def test_inference_leaves_no_tape_and_the_same_bits(name: str) -> None:
    module, _ = pair(name, D, H, 2, bidirectional=True)
    x = torch.randn(T, N, D, dtype=torch.float64)
    with torch.no_grad():
        quiet, _ = module(x)
    assert not quiet.requires_grad
    assert torch.equal(quiet, module(x)[0])
    with torch.inference_mode():
        assert torch.equal(quiet, module(x)[0])
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    output, lengths = pad_packed_sequence(module(packed)[0])
    assert lengths.tolist() == LENGTHS
    alone, _ = module(x[:3, 3:4])  # of three steps
    torch.testing.assert_close(output[:3, 3:4], alone, rtol=0, atol=0)


def test_any_strides_without_a_copy() -> None:
    module, theirs = pair("LSTM", D, H)
    wide = torch.randn(N, 2 * D, T, dtype=torch.float64)
    for x in (
        wide[:, ::2].permute(2, 0, 1),
        wide[:, :D].permute(2, 0, 1),
        torch.ones(1, 1, D).double().expand(T, N, D),
    ):
        assert_same(results(module, "dense", x, None), results(theirs, "dense", x, None), torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_several_backward_passes(name: str) -> None:
    module, _ = pair(name, D, H, 2)
    x = torch.randn(T, N, D, dtype=torch.float64, requires_grad=True)
    output, _ = module(x)
    once = torch.autograd.grad(output.sum(), x, retain_graph=True)[0]
    assert torch.equal(once, torch.autograd.grad(output.sum(), x, retain_graph=True)[0])
    twice = torch.autograd.grad(2 * output.sum(), x)[0]
    torch.testing.assert_close(twice, 2 * once)
    output, _ = module(x)
    gradient = torch.autograd.grad(output.square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="a second derivative is not there"):
        gradient.sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_a_second_derivative_is_refused_wherever_it_is_asked_for(name: str) -> None:
    """The gradient of a sum depends on x through what was saved alone: silence would be a 0."""
    module, _ = pair(name, D, H, 2)
    x = torch.randn(T, N, D, dtype=torch.float64, requires_grad=True)
    functional = torch.autograd.functional
    for second in (
        lambda: functional.hessian(lambda t: module(t)[0].square().sum(), x),
        lambda: functional.hvp(lambda t: module(t)[0].sum(), x, torch.ones_like(x)),
        lambda: functional.jvp(lambda t: module(t)[0].sum((1, 2)), x, torch.ones_like(x)),
        lambda: torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)[0].square().sum().backward(),
        lambda: torch.autograd.grad(
            torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)[0].sum(), [*module.parameters()]
        ),
    ):
        with pytest.raises(RuntimeError, match="a second derivative is not there"):
            second()
    module.requires_grad_(False)  # x alone
    with pytest.raises(RuntimeError, match="a second derivative is not there"):
        torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)[0].sum().backward()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frozen", [False, True])
def test_tracers_and_modes_see_the_operator(name: str, frozen: bool) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils.flop_counter import FlopCounterMode

    module, _ = pair(name, D, H, 2)
    module.requires_grad_(not frozen)
    x, other = (torch.randn(T, N, D, dtype=torch.float64) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of branches that PyTorch's own modules have as well
        traced = torch.jit.trace(module, (x,), check_trace=False)
    assert torch.equal(traced(other)[0], module(other)[0])
    with torch.no_grad():
        graph = make_fx(lambda t: module(t)[0])(x)
    assert torch.equal(graph(other), module(other)[0])
    with FlopCounterMode(display=False):
        assert torch.equal(module(other)[0], graph(other))


def test_forward_mode_is_refused() -> None:
    module = ours.GRU(3, 4).requires_grad_(False)
    x = torch.randn(5, 2, 3)
    with warnings.catch_warnings(), torch.autograd.forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own
        assert module(x)[0].shape == (5, 2, 4)
        with pytest.raises(RuntimeError, match="forward mode"):
            module(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))


def test_tensors_of_other_kinds() -> None:
    mine, theirs = ours.LSTM(3, 4), torch.nn.LSTM(3, 4)
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 2, 3)
    with torch.device("meta"):
        output, _ = mine(x)
    torch.testing.assert_close(output, theirs(x)[0])
    output.sum().backward()
    negative = torch.randn(5, 2, 3, dtype=torch.cfloat).conj().imag
    assert negative.is_neg()
    torch.testing.assert_close(mine(negative)[0], theirs(negative)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = torch.nn.Linear(3, 3)(x)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(mine(half)[0], theirs(half.float())[0].float(), atol=0.05, rtol=0.05)
        state = (half.new_zeros(1, 2, 4), half.new_zeros(1, 2, 4))
        torch.testing.assert_close(mine(half, state)[0], mine(half)[0])


def test_the_compiler_takes_packed_rows_in_one_graph() -> None:
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.randn(6, 4, 3), torch.tensor([2, 6, 1, 4]), enforce_sorted=False
    )
    for name in NAMES:
        module = getattr(ours, name)(3, 4)

        def outputs(*parts: Any, module: Any = module) -> Any:
            return module(torch.nn.utils.rnn.PackedSequence(*parts))[0].data

        compiled = torch.compile(outputs, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*packed), outputs(*packed))


def test_arguments_by_place() -> None:
    for name in NAMES:
        places = (3, 4, 1, *(("relu",) if name == "RNN" else ()), True, False, 0.0, True, 0, "cpu", torch.float64)
        mine, theirs = (getattr(of, name)(*places) for of in (ours, torch.nn))
        mine.load_state_dict(theirs.state_dict())
        assert mine.weight_hh_l0.dtype == torch.float64
        with pytest.raises(ValueError, match="proj_size: expected 0, got 2"):
            getattr(ours, name)(3, 4, proj_size=2)


def test_states_of_other_dimensions() -> None:
    for name, places in (("GRU", "hx"), ("LSTM", r"hx\[0\]")):
        module = getattr(ours, name)(3, 4)
        flat, deep = torch.zeros(1, 4), torch.zeros(1, 3, 4)
        of = (lambda s: (s, s)) if name == "LSTM" else (lambda s: s)
        with pytest.raises(
            RuntimeError, match=f"{places}: expected 2 dimensions for one sequence without a batch, got 3"
        ):
            module(torch.zeros(5, 3), of(deep))
        with pytest.raises(RuntimeError, match=f"{places}: expected 3 dimensions for this input, got 2"):
            module(torch.zeros(5, 3, 3), of(flat))
    with pytest.raises(TypeError, match=r"hx: expected a pair \(h_0, c_0\), got 3 of them"):
        ours.LSTM(3, 4)(torch.zeros(5, 3, 3), (deep,) * 3)


def operator_arguments(cell: str, packed: bool, reverse: bool, bias: bool = True) -> tuple[Any, ...]:
    G = {"lstm": 4, "gru": 3}.get(cell, 1)
    torch.manual_seed(2)

    def numbers(*shape: int) -> Any:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    sizes = torch.tensor([3, 2, 2]) if packed else None
    x = numbers(7, 3) if packed else numbers(4, 3, 3)
    biases = (numbers(G * 5), numbers(G * 5)) if bias else (None, None)
    c0 = numbers(3, 5) if cell == "lstm" else None
    return (x, sizes, numbers(3, 5), c0, numbers(G * 5, 3), numbers(G * 5, 5), *biases, cell, reverse, False, True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_rules_of_operators(cell: str, packed: bool) -> None:
    operator = torch.ops.rnnfast.recurrence.default
    arguments = operator_arguments(cell, packed, reverse=packed, bias=not packed)
    found = torch.library.opcheck(operator, arguments)
    assert set(found.values()) == {"SUCCESS"}, found
    places = [i for i, a in enumerate(arguments) if isinstance(a, torch.Tensor) and a.requires_grad]

    def outputs(*changed: Any) -> Any:
        given = list(arguments)
        for i, a in zip(places, changed, strict=True):
            given[i] = a
        return operator(*given)[: 3 if cell == "lstm" else 2]

    assert torch.autograd.gradcheck(outputs, [arguments[i] for i in places])


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("name", NAMES)
def test_compiled_in_one_graph(name: str) -> None:
    module, _ = pair(name, D, H, 2, bidirectional=True, dtype=torch.float32)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for steps in (T, T + 2):
        x = torch.randn(steps, N, D)
        assert_same(results(compiled, "dense", x, None), results(module, "dense", x, None), torch.float32)
    torch.compiler.reset()


def test_dropout_between_layers() -> None:
    module, _ = pair("LSTM", D, H, 2, dropout=0.5)
    x = torch.randn(T, N, D, dtype=torch.float64)
    torch.manual_seed(0)
    a, (h, _) = module(x)
    b, _ = module(x)
    assert not torch.equal(a, b)
    torch.manual_seed(0)
    assert torch.equal(a, module(x)[0])
    first = ours.LSTM(D, H).double()
    first.load_state_dict({k: v for k, v in module.state_dict().items() if k.endswith("l0")})
    assert torch.equal(h[0], first(x)[1][0][0]), "the bottom layer has none"
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_interface(name: str) -> None:
    """What torch.nn's take, and say."""
    kind, theirs = getattr(ours, name), getattr(nn, name)
    module = kind(3, 4, 2, bidirectional=True)
    other = theirs(3, 4, 2, bidirectional=True)
    assert repr(module) == repr(other)
    assert list(module.state_dict()) == list(other.state_dict())
    assert [p.shape for p in module.parameters()] == [p.shape for p in other.parameters()]
    torch.manual_seed(3)
    module.reset_parameters()
    torch.manual_seed(3)
    other.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    taken = set(inspect.signature(ours._Recurrent.__init__).parameters)
    assert {"input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"} <= taken
    for wrong, message in (
        (torch.randn(3), "input: expected 2 or 3 dimensions, got 1"),
        (torch.randn(3, 2, 5), "input.size\\(-1\\) must be equal to input_size"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=message):
            module(wrong)
    state = torch.zeros(4, 3, 4)
    with pytest.raises(RuntimeError, match=r"Expected hidden(\[0\])? size \(4, 2, 4\), got \[4, 3, 4\]"):
        module(torch.randn(3, 2, 3), (state, state) if name == "LSTM" else state)


def test_other_weights_for_a_call() -> None:
    module, theirs = pair("LSTM", D, H)
    x = torch.randn(T, N, D, dtype=torch.float64)
    other = {name: 2 * p.detach() for name, p in module.named_parameters()}
    outputs = [torch.func.functional_call(m, other, (x,))[0] for m in (module, theirs)]
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-12)


def test_a_parameter_that_is_computed() -> None:
    module, theirs = pair("GRU", D, H)
    for m in (module, theirs):
        nn.utils.parametrizations.weight_norm(m, "weight_hh_l0")
    x = torch.randn(T, N, D, dtype=torch.float64)
    assert_same(results(module, "dense", x, None), results(theirs, "dense", x, None), torch.float64)


def test_parts_that_need_no_gradient() -> None:
    module, theirs = pair("GRU", D, H)
    for m in (module, theirs):
        m.weight_hh_l0.requires_grad_(False)
        m.bias_ih_l0.requires_grad_(False)
    x = torch.randn(T, N, D, dtype=torch.float64)
    got = {k: v for k, v in results(module, "dense", x, None).items() if v is not None}
    assert set(results(theirs, "dense", x, None)) - set(got) == {"weight_hh_l0", "bias_ih_l0"}
    assert_same(got, {k: v for k, v in results(theirs, "dense", x, None).items() if v is not None}, torch.float64)


def test_empty_batches_and_sequences() -> None:
    module = ours.GRU(3, 4, bidirectional=True)
    for shape in ((5, 0, 3), (0, 2, 3), (0, 3)):
        x = torch.zeros(shape, requires_grad=True)
        output, _ = module(x)
        assert output.shape == (*shape[:-1], 8)
        output.sum().backward()
        assert x.grad.shape == shape


def test_errors() -> None:
    x = torch.randn(3, 2, 3)
    with pytest.raises(TypeError, match="input: expected a tensor or a PackedSequence, got list"):
        ours.GRU(3, 4)([1, 2])
    with pytest.raises(TypeError, match=r"hx: expected a pair \(h_0, c_0\), got Tensor"):
        ours.LSTM(3, 4)(x, torch.zeros(1, 2, 4))
    with pytest.raises(TypeError, match=r"hx\[0\]: expected a tensor, got tuple"):
        ours.GRU(3, 4)(x[:, 0], (torch.zeros(1, 4),))
    with pytest.raises(TypeError, match=r"rnnfast.torch.GRU: expected input of float32 or float64, got torch.float16"):
        ours.GRU(3, 4).half()(x.half())
    with pytest.raises(TypeError, match=r"expected weight_ih_l0 of torch.float32, as the input, got torch.float64"):
        ours.GRU(3, 4).double()(x)
    with pytest.raises(RuntimeError, match=r"rnnfast.torch.GRU: expected input on the CPU, got meta"):
        ours.GRU(3, 4)(x.to("meta"))
    with pytest.raises(ValueError, match="nonlinearity: expected 'tanh' or 'relu', got 'sigmoid'"):
        ours.RNN(3, 4, nonlinearity="sigmoid")
    with pytest.raises(ValueError, match="proj_size: expected 0, got 2"):
        ours.LSTM(3, 4, proj_size=2)
