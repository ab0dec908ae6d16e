"""Triton kernels, one a file. They load Triton, so that everybody else imports them in functions.

Conventions: inputs, then int32 sizes, then outputs, then constants of compilation. Scales and zero points come in small
tensors, never as scalars of float. Weights are [output channels, ...]. Nothing here is fused by the compiler (multiply
and add stay two roundings) and division is IEEE's, so that every device gives the numbers of the numpy reference.
"""
