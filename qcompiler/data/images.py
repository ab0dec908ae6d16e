"""Samples from a folder of images, as an ``[images]`` table describes them.

The geometry is that of torchvision's Resize and CenterCrop on Pillow images: bilinear with antialiasing, the longer
side rounded down. An orientation noted in EXIF data is not applied; the usual training pipelines do not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.data.dataset import Array, Dataset, InputSpec, Sample
from qcompiler.data.fit import check_dims, check_finite, listing
from qcompiler.data.image_labels import read_labels
from qcompiler.data.image_settings import ImageSettings, read_image_settings
from qcompiler.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageDataset", "open_images"]

_SUFFIXES = {".jpg", ".jpeg", ".png"}


class ImageDataset(Dataset):
    """Images, decoded when they are asked for; a sample is one image, or b of them for a model with a batch of b."""

    def __init__(
        self, paths: Sequence[Path], settings: ImageSettings, spec: InputSpec, *, batch: int = 1, labels: Array | None
    ) -> None:
        """``labels``: int64 [len(paths)]. A remainder that fills no batch is dropped. DataError as in ``sample``."""
        self._paths = list(paths)
        self._settings = settings
        self._spec = spec
        self._batch = batch
        self._count = len(paths) // batch
        if labels is not None and batch > 1:
            labels = labels[: self._count * batch].reshape(self._count, batch)
        super().__init__(f"{settings.folder} ({self._count * batch} images)", labels)
        self.sample(0)  # what is wrong with the settings is wrong with every image, and is told now

    def __len__(self) -> int:
        return self._count

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        paths = self._paths[index * self._batch : (index + 1) * self._batch]
        images = [_prepare(path, self._settings, self._spec) for path in paths]
        for path, image in zip(paths, images, strict=True):
            if image.shape != images[0].shape:
                raise DataError(
                    f"{path} becomes {image.shape}, {paths[0]} becomes {images[0].shape}, and a batch takes one shape",
                    hint=f"set resize, or crop, in {self._settings.file}",
                )
        return {self._spec.name: np.ascontiguousarray(np.stack(images))}


def open_images(
    path: Path, inputs: Sequence[InputSpec], *, limit: int | None = None, batch_size: int | None = None
) -> ImageDataset:
    """The images that the TOML file at ``path`` describes, sorted by their paths below the folder.

    Of more than ``limit`` samples, images at even distances are taken: the first ones would all be of the first class.
    Raises DataError for wrong settings, for images that cannot be read and for a first one that does not fit the model;
    UsageError without Pillow.
    """
    settings = read_image_settings(path)
    spec = _input(settings, inputs)
    paths = [one for one in settings.folder.rglob("*") if one.suffix.lower() in _SUFFIXES and one.is_file()]
    paths.sort(key=lambda one: one.relative_to(settings.folder).as_posix())
    fixed = spec.shape[0] if spec.shape else None
    batch = fixed if isinstance(fixed, int) else batch_size or 1
    if not 0 < batch <= len(paths):
        raise DataError(
            f"{settings.folder} holds {len(paths)} images, and the model takes batches of {batch}",
            hint="put jpg or png files there",
        )
    labels = read_labels(paths, settings)
    if limit is not None and limit * batch < len(paths):
        chosen = [index * len(paths) // (limit * batch) for index in range(limit * batch)]
        paths = [paths[index] for index in chosen]
        labels = None if labels is None else labels[chosen]
    return ImageDataset(paths, settings, spec, batch=batch, labels=labels)


def _input(settings: ImageSettings, inputs: Sequence[InputSpec]) -> InputSpec:
    """The input that the images feed, which must be the only one."""
    names = [spec.name for spec in inputs]
    wanted = settings.input or (names[0] if len(names) == 1 else None)
    if wanted not in names:
        raise DataError(
            f"{settings.file}: input = {wanted!r} is no input of the model, which takes {listing(names)}",
            hint="set input to the model's",
        )
    if len(names) > 1:
        raise DataError(
            f"{settings.file} feeds only '{wanted}', and the model takes {listing(names)}",
            hint="yield all inputs from a Python callable, --data MODULE:CALLABLE",
        )
    spec = next(spec for spec in inputs if spec.name == wanted)
    if spec.dtype.kind not in "iu" and not spec.dtype.name.startswith(("float", "bfloat")):
        raise DataError(f"{settings.file}: input '{wanted}' takes {spec}", hint="images cannot feed it")
    if spec.shape is not None and len(spec.shape) != 4:
        raise DataError(
            f"{settings.file}: input '{wanted}' takes {spec}, and images have rank 4, {settings.layout}",
            hint="yield samples from a Python callable, --data MODULE:CALLABLE",
        )
    return spec


def _prepare(path: Path, settings: ImageSettings, spec: InputSpec) -> Array:
    """One image as the model takes it, without the batch axis: [3, h, w] or [h, w, 3] in the input's element type."""
    pixels = _read(path, settings)
    if settings.color == "BGR":
        pixels = pixels[..., ::-1]
    work = np.dtype(np.float64 if spec.dtype == np.float64 else np.float32)
    scale, mean, std = (np.array(setting, work) for setting in (settings.scale, settings.mean, settings.std))
    values = (pixels.astype(work) * scale - mean) / std
    if settings.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    # The batch axis is checked too, but its size is whatever the dataset stacks.
    batch = spec.shape[0] if spec.shape else None
    shape = (batch if isinstance(batch, int) else 1, *values.shape)
    check_dims(spec.name, shape, spec, str(path), hint=f"set crop, resize and layout in {settings.file} for the model")
    return _cast(values, spec, path)


def _cast(values: Array, spec: InputSpec, path: Path) -> Array:
    """``values`` in the input's element type: rounded for integers, and refused where they do not fit it."""
    if spec.dtype.kind in "iu":
        limits: Any = np.iinfo(spec.dtype)
        whole = np.rint(values)
        if whole.min() < limits.min or whole.max() > limits.max:
            raise DataError(
                f"{path}: pixels from {values.min():g} to {values.max():g} do not fit the input '{spec.name}', {spec}",
                hint="set scale, mean and std for its range",
            )
        return whole.astype(spec.dtype)
    with np.errstate(over="ignore"):  # what overflows float16 becomes an infinity, which is refused
        cast = values.astype(spec.dtype)
    check_finite(spec.name, cast, str(path))
    return cast


def _read(path: Path, settings: ImageSettings) -> Array:
    """The pixels of the image, resized and cropped: uint8 [h, w, 3] in the order RGB."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("images need Pillow", hint="pip install 'qcompiler[images]'") from error
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{path} has more than 8 bits per channel", hint="save it with 8 bits")
            resized = _resize(image.convert("RGB"), settings)
    except DataError:
        raise
    except Exception as error:  # each decoder raises types of its own on damaged files
        raise DataError(
            f"{path} cannot be decoded ({type(error).__name__}: {error})", hint="remove the image or save it again"
        ) from error
    if settings.crop is None:
        return np.asarray(resized)
    height, width = settings.crop
    if height > resized.height or width > resized.width:
        raise DataError(
            f"{path} is {resized.height} x {resized.width}, smaller than the crop of {height} x {width}",
            hint=f"resize to at least the crop in {settings.file}",
        )
    top, left = round((resized.height - height) / 2), round((resized.width - width) / 2)
    return np.asarray(resized)[top : top + height, left : left + width]


def _resize(image: Image.Image, settings: ImageSettings) -> Image.Image:
    if settings.resize is not None:
        height, width = settings.resize
    elif settings.resize_shorter is not None:
        shorter, longer = sorted(image.size)
        scaled = settings.resize_shorter * longer // shorter
        height, width = settings.resize_shorter, settings.resize_shorter
        if image.width > image.height:
            width = scaled
        else:
            height = scaled
    else:
        return image
    from PIL.Image import Resampling

    return image.resize((width, height), Resampling.BILINEAR)
