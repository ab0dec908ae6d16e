"""Float32 arithmetic that gives the same bits everywhere: the twin of :mod:`qcompiler.kernels.arithmetic`.

The order of operations is that of the numpy functions of the same names; change both or none.
"""

import triton
import triton.language as tl

__all__ = ["activate", "erf", "exp", "half_even", "sigmoid", "tanh", "to_int8"]

_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2**23: adding and taking it away rounds half to even below 2**22


@triton.jit
def half_even(x):
    """Nearest integer of |x| < 2**22, halves to even."""
    return (x + _MAGIC) - _MAGIC


@triton.jit
def exp(x):
    """e**x, which saturates at -87 and 88."""
    x = tl.minimum(tl.maximum(x, -87.0), 88.0)
    n = half_even(x * 1.44269504)
    r = x - n * 0.693359375
    r = r - n * -2.12194440e-4
    p = r * 1.9875691500e-4 + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    y = p * (r * r) + r
    y = y + 1.0
    power = ((n.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return y * power


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return tl.div_rn(1.0, 1.0 + exp(-x))


@triton.jit
def tanh(x):
    """1 - 2 / (exp(2x) + 1)."""
    e = exp(x * 2.0)
    return 1.0 - tl.div_rn(2.0, e + 1.0)


@triton.jit
def erf(x):
    """Error function."""
    z = tl.abs(x)
    t = tl.div_rn(1.0, z * 0.3275911 + 1.0)
    p = t * 1.061405429 + -1.453152027
    p = p * t + 1.421413741
    p = p * t + -0.284496736
    p = p * t + 0.254829592
    y = 1.0 - (p * t) * exp(-(z * z))
    return tl.where(x < 0.0, -y, y)


@triton.jit
def activate(x, low, high, ACTIVATION: tl.constexpr):
    """``x`` after the activation of that code; ``low`` and ``high`` are its parameters."""
    if ACTIVATION == 1:  # relu
        x = tl.maximum(x, 0.0)
    elif ACTIVATION == 2:  # clip
        x = tl.minimum(tl.maximum(x, low), high)
    elif ACTIVATION == 3:  # leaky_relu
        x = tl.where(x < 0.0, x * low, x)
    elif ACTIVATION == 4:  # silu
        x = x * sigmoid(x)
    elif ACTIVATION == 5:  # gelu
        x = (x * 0.5) * (erf(x * 0.70710678) + 1.0)
    elif ACTIVATION == 6:  # gelu_tanh
        x = (x * 0.5) * (tanh((x + (x * x * x) * 0.044715) * 0.7978845608) + 1.0)
    elif ACTIVATION == 7:  # hard_swish
        x = x * tl.minimum(tl.maximum(x * 0.16666667 + 0.5, 0.0), 1.0)
    elif ACTIVATION == 8:  # sigmoid
        x = sigmoid(x)
    elif ACTIVATION == 9:  # tanh
        x = tanh(x)
    elif ACTIVATION == 10:  # hard_sigmoid
        x = tl.minimum(tl.maximum(x * low + high, 0.0), 1.0)
    return x


@triton.jit
def to_int8(x, scale, zero):
    """QuantizeLinear to int8: divide, round half to even, saturate. Not a number becomes the lowest."""
    x = tl.div_rn(x, scale)
    x = tl.where(x == x, x, -128.0 - zero)
    x = tl.minimum(tl.maximum(x, -128.0 - zero), 127.0 - zero)
    return (half_even(x) + zero).to(tl.int32).to(tl.int8)
