"""Recurrent layers, step by step."""

from __future__ import annotations

from typing import Any

import torch

from qcompiler.ir import Node
from qcompiler.training.operators import Unsupported, operator

__all__: list[str] = []


def _checked(node: Node, lengths: Any, peepholes: Any = None) -> None:
    if lengths is not None or peepholes is not None or node.attr("layout", 0) or node.attr("clip", 0.0):
        raise Unsupported("it has lengths, peepholes, a clip or batches in front")
    if node.attr("activations") not in (None, [], ()):
        usual = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}[node.op_type]
        given = tuple(each.decode() if isinstance(each, bytes) else each for each in node.attr("activations"))
        if given != usual * (len(given) // len(usual)):
            raise Unsupported("it has activations of its own")


def _directions(node: Node) -> list[bool]:
    """For each direction whether it runs backwards."""
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[node.attr("direction", "forward")]


def _parts(bias: Any, direction: int, width: int, like: Any) -> tuple[Any, Any]:
    if bias is None:
        zeros = like.new_zeros(width)
        return zeros, zeros
    return bias[direction, :width], bias[direction, width:]


@operator("LSTM")
def lstm(
    node: Node, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None, p: Any = None
) -> Any:
    """Gates in the order input, output, forget, cell; outputs [length, directions, batch, hidden] and last states."""
    _checked(node, lengths, p)
    if node.attr("input_forget", 0):
        raise Unsupported("it couples its gates")
    hidden = r.shape[-1]
    outs, lasts, cells = [], [], []
    for direction, backwards in enumerate(_directions(node)):
        wb, rb = _parts(b, direction, 4 * hidden, x)
        state = x.new_zeros(x.shape[1], hidden) if h is None else h[direction]
        cell = x.new_zeros(x.shape[1], hidden) if c is None else c[direction]
        fed = x @ w[direction].t() + wb + rb
        steps = []
        for step in range(x.shape[0])[::-1] if backwards else range(x.shape[0]):
            i, o, f, g = (fed[step] + state @ r[direction].t()).chunk(4, -1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            state = torch.sigmoid(o) * torch.tanh(cell)
            steps.append(state)
        outs.append(torch.stack(steps[::-1] if backwards else steps))
        lasts.append(state)
        cells.append(cell)
    return torch.stack(outs, 1), torch.stack(lasts), torch.stack(cells)


@operator("GRU")
def gru(node: Node, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None) -> Any:
    """Gates in the order update, reset, hidden."""
    _checked(node, lengths)
    hidden = r.shape[-1]
    outs, lasts = [], []
    for direction, backwards in enumerate(_directions(node)):
        wb, rb = _parts(b, direction, 3 * hidden, x)
        state = x.new_zeros(x.shape[1], hidden) if h is None else h[direction]
        wz, wr, wh = (x @ w[direction].t() + wb).chunk(3, -1)
        matrices, biases = r[direction].chunk(3), rb.chunk(3)
        steps = []
        for step in range(x.shape[0])[::-1] if backwards else range(x.shape[0]):
            update = torch.sigmoid(wz[step] + state @ matrices[0].t() + biases[0])
            reset = torch.sigmoid(wr[step] + state @ matrices[1].t() + biases[1])
            if node.attr("linear_before_reset", 0):
                made = torch.tanh(wh[step] + reset * (state @ matrices[2].t() + biases[2]))
            else:
                made = torch.tanh(wh[step] + (reset * state) @ matrices[2].t() + biases[2])
            state = (1 - update) * made + update * state
            steps.append(state)
        outs.append(torch.stack(steps[::-1] if backwards else steps))
        lasts.append(state)
    return torch.stack(outs, 1), torch.stack(lasts)


@operator("RNN")
def rnn(node: Node, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None) -> Any:
    _checked(node, lengths)
    hidden = r.shape[-1]
    outs, lasts = [], []
    for direction, backwards in enumerate(_directions(node)):
        wb, rb = _parts(b, direction, hidden, x)
        state = x.new_zeros(x.shape[1], hidden) if h is None else h[direction]
        fed = x @ w[direction].t() + wb + rb
        steps = []
        for step in range(x.shape[0])[::-1] if backwards else range(x.shape[0]):
            state = torch.tanh(fed[step] + state @ r[direction].t())
            steps.append(state)
        outs.append(torch.stack(steps[::-1] if backwards else steps))
        lasts.append(state)
    return torch.stack(outs, 1), torch.stack(lasts)
